#ifndef MODEL_H_
#define MODEL_H_

#include <stdint.h>

#define MODEL_LAYERS 3
#define MODEL_ARENA_BYTES 48
#define MODEL_INPUT_BYTES 9
#define MODEL_OUTPUT_BYTES 8

void *model_input(uint8_t *arena, uint32_t index);
const void *model_output(const uint8_t *arena, uint32_t index);
void model_invoke(uint8_t *arena);

#endif /* MODEL_H_ */

/* Runs a model under the sanitizers.
 *   model_sanitized                   prints the model's description
 *   model_sanitized INPUTS OUTPUTS    every sample of the file INPUTS, its inputs one after another
 * The arena is an allocation of its own size, so that one byte beyond it is a finding. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"

extern const char model_information[];

static const size_t input_bytes[] = {INPUT_BYTES};
static const size_t output_bytes[] = {OUTPUT_BYTES};

#define LENGTH(array) ((uint32_t)(sizeof(array) / sizeof(array)[0]))

/* 1 if a whole sample was read, 0 at the end of the file. */
static int read_sample(uint8_t *arena, FILE *from) {
  for (uint32_t i = 0; i < LENGTH(input_bytes); ++i) {
    if (fread(model_input(arena, i), 1, input_bytes[i], from) != input_bytes[i]) return 0;
  }
  return 1;
}

static void write_sample(const uint8_t *arena, FILE *to) {
  for (uint32_t i = 0; i < LENGTH(output_bytes); ++i) {
    fwrite(model_output(arena, i), 1, output_bytes[i], to);
  }
}

int main(int argc, char **argv) {
  if (argc != 3) {
    puts(model_information);
    return 0;
  }
  FILE *from = fopen(argv[1], "rb");
  FILE *to = fopen(argv[2], "wb");
  uint8_t *arena = malloc(MODEL_ARENA_BYTES);
  if (!from || !to || !arena) return 1;
  memset(arena, 0xA5, MODEL_ARENA_BYTES);
  while (read_sample(arena, from)) {
    model_invoke(arena);
    write_sample(arena, to);
  }
  free(arena);
  fclose(from);
  return fclose(to) ? 1 : 0;
}

/* Runs a model under the sanitizers, layer by layer, as sanitized_main.c does, and ends where a
 * layer writes to a byte of the arena that is neither its output's nor its scratch's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.c"

extern const char model_information[];

/* {the layer's function, output, its bytes, scratch, its bytes}, the places in the arena. */
static const struct {
  void (*run)(uint8_t *arena);
  size_t y, y_bytes, scratch, scratch_bytes;
} layers[] = {
#include "watched_layers.h"
};

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

static void run_layers(uint8_t *arena, uint8_t *before) {
  for (uint32_t i = 0; i < LENGTH(layers); ++i) {
    memcpy(before, arena, MODEL_ARENA_BYTES);
    layers[i].run(arena);
    for (size_t n = 0; n < MODEL_ARENA_BYTES; ++n) {
      const int own =
          n - layers[i].y < layers[i].y_bytes || n - layers[i].scratch < layers[i].scratch_bytes;
      if (!own && arena[n] != before[n]) {
        fprintf(stderr, "layer %u writes to byte %u, which is not its own\n", (unsigned)i,
                (unsigned)n);
        exit(1);
      }
    }
  }
}

int main(int argc, char **argv) {
  if (argc != 3) {
    puts(model_information);
    return 0;
  }
  FILE *from = fopen(argv[1], "rb");
  FILE *to = fopen(argv[2], "wb");
  uint8_t *arena = malloc(MODEL_ARENA_BYTES), *before = malloc(MODEL_ARENA_BYTES);
  if (!from || !to || !arena || !before) return 1;
  memset(arena, 0xA5, MODEL_ARENA_BYTES);
  while (read_sample(arena, from)) {
    run_layers(arena, before);
    for (uint32_t i = 0; i < LENGTH(output_bytes); ++i) {
      fwrite(model_output(arena, i), 1, output_bytes[i], to);
    }
  }
  free(before);
  free(arena);
  fclose(from);
  return fclose(to) ? 1 : 0;
}

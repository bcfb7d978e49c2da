// Runs the stored test vectors and prints how many differ from TensorFlow Lite's outputs.
#include <scalpel_model.h>

#include "test_vectors.h"

alignas(16) static uint8_t arena[MODEL_ARENA_BYTES];

static int differing() {
  const uint8_t *given = test_inputs;
  const uint8_t *expected = test_outputs;
  int wrong = 0;
  for (int vector = 0; vector < TEST_VECTORS; ++vector) {
    bool same = true;
    for (uint32_t i = 0; i < MODEL_INPUTS; given += test_input_bytes[i++]) {
      memcpy(model_input(arena, i), given, static_cast<size_t>(test_input_bytes[i]));
    }
    model_invoke(arena);
    for (uint32_t i = 0; i < MODEL_OUTPUTS; expected += test_output_bytes[i++]) {
      const void *output = model_output(arena, i);
      same = same && memcmp(output, expected, static_cast<size_t>(test_output_bytes[i])) == 0;
    }
    wrong += same ? 0 : 1;
  }
  return wrong;
}

void setup() { Serial.begin(115200); }

void loop() {
  const unsigned long start = micros();
  const int wrong = differing();
  const unsigned long took = (micros() - start) / TEST_VECTORS;
  Serial.print(wrong);
  Serial.print(" test vectors differ; microseconds each: ");
  Serial.println(took);
  delay(2000);
}

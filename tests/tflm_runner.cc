// Runs models in TensorFlow Lite Micro.
//   tflm_runner INPUTS OUTPUTS MODEL...
// INPUTS holds samples of the first input, one after the other.  For every model a line is printed:
// "refused", or the bytes of the arena that it used; its outputs are appended to OUTPUTS.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "model_ops.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/schema/schema_generated.h"

namespace {

constexpr size_t kArenaBytes = 4 << 20;
constexpr size_t kAlignment = 16;
alignas(kAlignment) uint8_t arena[kArenaBytes];

std::vector<char> Read(const char *path) {
  std::FILE *file = std::fopen(path, "rb");
  if (file == nullptr) std::exit(2);
  std::fseek(file, 0, SEEK_END);
  std::vector<char> contents(static_cast<size_t>(std::ftell(file)));
  std::rewind(file);
  const size_t read = std::fread(contents.data(), 1, contents.size(), file);
  std::fclose(file);
  if (read != contents.size()) std::exit(2);
  return contents;
}

bool Run(const std::vector<char> &contents, const std::vector<char> &inputs, std::FILE *outputs,
         const tflite::MicroOpResolver &resolver) {
  const size_t room = (contents.size() + kAlignment - 1) / kAlignment * kAlignment;
  char *aligned = static_cast<char *>(std::aligned_alloc(kAlignment, room));
  std::copy(contents.begin(), contents.end(), aligned);
  bool works = false;
  {
    tflite::MicroInterpreter interpreter(tflite::GetModel(aligned), resolver, arena, kArenaBytes);
    works = interpreter.AllocateTensors() == kTfLiteOk;
    const size_t bytes = works ? interpreter.input(0)->bytes : 1;
    for (size_t at = 0; works && at + bytes <= inputs.size(); at += bytes) {
      std::copy_n(inputs.data() + at, bytes, interpreter.input(0)->data.int8);
      works = interpreter.Invoke() == kTfLiteOk;
      for (size_t i = 0; i < interpreter.outputs_size(); ++i) {
        const TfLiteTensor *output = interpreter.output(i);
        std::fwrite(output->data.int8, 1, output->bytes, outputs);
      }
    }
    if (works) std::printf("%lu\n", static_cast<unsigned long>(interpreter.arena_used_bytes()));
  }
  std::free(aligned);
  return works;
}

}  // namespace

int main(int argc, char **argv) {
  if (argc < 4) return 2;
  ModelOpResolver resolver;
  if (RegisterModelOps(resolver) != kTfLiteOk) return 2;
  const std::vector<char> inputs = Read(argv[1]);
  std::FILE *outputs = std::fopen(argv[2], "wb");
  if (outputs == nullptr) return 2;
  for (int i = 3; i < argc; ++i) {
    if (!Run(Read(argv[i]), inputs, outputs, resolver)) std::puts("refused");
    std::fflush(stdout);
  }
  return std::fclose(outputs) ? 2 : 0;
}

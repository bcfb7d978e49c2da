// Every function of scalpel_kernels.h, with every instruction set of this machine, against sums in
// double. Arguments lie against pages that nobody may touch and cannot be written; the bits must
// not depend on the number of threads or on other callers.
//
// kernels_test [first seed [seeds]]: exit code 0, or 1 and the seed that failed.
#include <signal.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "scalpel_kernels.h"
#include "testing/problem.h"

namespace {

using scalpel::Guarded;
using scalpel::Matrix;
using scalpel::Problem;
using scalpel::Random;
using scalpel::Sum;

using Call = std::function<int(float *out)>;

char current[200] = "the start";  // what is running, for the signal handler

void Fail(const std::string &what) {
  std::fprintf(stderr, "kernels_test: %s: %s\n", current, what.c_str());
  std::exit(1);
}

void OnSignal(int) {
  const char *parts[] = {"kernels_test: ", current, ": touched what is not an argument\n"};
  for (const char *part : parts) {
    if (write(STDERR_FILENO, part, std::strlen(part)) < 0) break;
  }
  _exit(1);
}

void Compare(const float *got, const std::vector<Sum> &sums) {
  for (size_t i = 0; i < sums.size(); ++i) {
    // Written so that a NaN fails.
    if (std::fabs(got[i] - sums[i].value) <= sums[i].Tolerance()) continue;
    char text[160];
    std::snprintf(text, sizeof text, "element %zu of %zu is %.9g, not %.9g +- %.3g", i, sums.size(),
                  got[i], sums[i].value, sums[i].Tolerance());
    Fail(text);
  }
}

// Runs one call alone, with other numbers of threads, and beside itself.
void Check(const Call &call, const std::vector<Sum> &sums, bool at_end, bool crowd) {
  const size_t bytes = sums.size() * sizeof(float);
  const auto run = [&](Guarded *out) {
    if (call(out->as<float>()) != SCALPEL_OK) Fail("did not return SCALPEL_OK");
  };
  Guarded first(bytes, at_end);
  const auto same = [&](const Guarded &out, const std::string &why) {
    if (std::memcmp(out.as<char>(), first.as<char>(), bytes) != 0) Fail("other bits " + why);
  };
  scalpel_set_threads(1);
  run(&first);
  Compare(first.as<float>(), sums);
  for (const int threads : {2, 5}) {
    Guarded out(bytes, at_end);
    scalpel_set_threads(threads);
    run(&out);
    same(out, "with " + std::to_string(threads) + " threads");
  }
  if (!crowd) return;
  std::vector<std::unique_ptr<Guarded>> outs;
  std::vector<std::thread> callers;
  for (int i = 0; i < 6; ++i) outs.push_back(std::make_unique<Guarded>(bytes, at_end));
  for (auto &out : outs) callers.emplace_back(run, out.get());
  for (auto &caller : callers) caller.join();
  for (auto &out : outs) same(*out, "beside other callers");
}

// The arguments of a problem, and what its functions have to give.
struct Expected {
  std::vector<Sum> y, dx, dvalues, dbias;
};

Expected Evaluate(const Problem &p, const float *x, const float *bias, const float *dy) {
  const Matrix &m = *p.matrix;
  Expected e;
  e.y.resize(p.positions * m.w.rows);
  e.dx.resize(p.x_size);
  e.dvalues.resize(m.weights.size());
  e.dbias.resize(m.w.rows);
  for (size_t i = 0; i < m.weights.size(); ++i) {
    const int64_t group = i / m.w.width, column = m.columns[group] + i % m.w.width;
    if (column >= m.w.cols) continue;
    for (int64_t n = 0; n < p.positions; ++n) {
      const int64_t in = p.input[n * m.w.cols + column];
      const int64_t out = p.output[n * m.w.rows + m.row[group]];
      if (in < 0) continue;
      e.y[out].Add(m.weights[i], x[in]);
      e.dx[in].Add(m.weights[i], dy[out]);
      e.dvalues[i].Add(x[in], dy[out]);
    }
  }
  for (int64_t n = 0; n < p.positions; ++n) {
    for (int64_t r = 0; r < m.w.rows; ++r) {
      const int64_t out = p.output[n * m.w.rows + r];
      e.dbias[r].Add(1, dy[out]);
      if (bias != nullptr) e.y[out].Add(1, bias[r]);
    }
  }
  return e;
}

void Activate(int activation, std::vector<Sum> *sums) {
  for (Sum &sum : *sums) {  // both are 1-Lipschitz: the tolerance stays
    if (activation != SCALPEL_LINEAR) sum.value = std::max(sum.value, 0.0);
    if (activation == SCALPEL_RELU6) sum.value = std::min(sum.value, 6.0);
  }
}

void RunSeed(uint64_t seed, bool at_end) {
  Random random(seed);
  const int kind = static_cast<int>(random.Below(3));
  const Problem p = kind < 2 ? scalpel::MakeMatmul(&random, at_end, kind == 1)
                             : scalpel::MakeConv2d(&random, at_end);
  const scalpel_gcsr &w = p.matrix->w;
  const int64_t y_size = p.positions * w.rows;
  Guarded x(p.x_size * sizeof(float), at_end), dy(y_size * sizeof(float), at_end);
  Guarded bias_array(w.rows * sizeof(float), at_end);
  for (int64_t i = 0; i < p.x_size; ++i) x.as<float>()[i] = 4 * random.Uniform();
  for (int64_t i = 0; i < y_size; ++i) dy.as<float>()[i] = random.Uniform();
  for (int64_t i = 0; i < w.rows; ++i) bias_array.as<float>()[i] = random.Uniform();
  for (Guarded *array : {&x, &dy, &bias_array}) array->Freeze();
  const float *bias = random.Below(2) ? bias_array.as<float>() : nullptr;
  const int activation = random.Pick({SCALPEL_LINEAR, SCALPEL_RELU, SCALPEL_RELU6});
  Expected e = Evaluate(p, x.as<float>(), bias, dy.as<float>());
  Activate(activation, &e.y);

  for (int i = 0; scalpel_isa_name(i) != nullptr; ++i) {
    if (scalpel_use_isa(scalpel_isa_name(i)) != SCALPEL_OK) Fail("cannot use an ISA it names");
    const auto check = [&](const char *what, const std::vector<Sum> &sums, const Call &call) {
      std::snprintf(current, sizeof current,
                    "seed %llu, %s of %s, %s, rows %lld, cols %lld, positions %lld, width %d, "
                    "value_type %d, groups %lld",
                    static_cast<unsigned long long>(seed), what, p.name.c_str(), scalpel_isa(),
                    static_cast<long long>(w.rows), static_cast<long long>(w.cols),
                    static_cast<long long>(p.positions), w.width, w.value_type,
                    static_cast<long long>(p.matrix->groups()));
      Check(call, sums, at_end, seed % 8 == 0);
    };
    check("y", e.y, [&](float *y) { return p.forward(x.as<float>(), bias, activation, y); });
    if (!p.grad_inputs) continue;
    check("dx", e.dx, [&](float *dx) { return p.grad_inputs(dy.as<float>(), dx); });
    check("dvalues", e.dvalues,
          [&](float *dvalues) { return p.grad_values(x.as<float>(), dy.as<float>(), dvalues); });
    check("dbias", e.dbias, [&](float *dbias) {
      return scalpel_bias_grad(w.rows, p.positions, dy.as<float>(), dbias);
    });
  }
}

}  // namespace

int main(int argc, char **argv) {
  const uint64_t first = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1;
  const uint64_t seeds = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 300;
  signal(SIGSEGV, OnSignal);
  signal(SIGBUS, OnSignal);
  for (uint64_t seed = first; seed < first + seeds; ++seed) {
    for (const bool at_end : {true, false}) RunSeed(seed, at_end);
  }
  std::string names;
  for (int i = 0; scalpel_isa_name(i) != nullptr; ++i)
    names += std::string(" ") + scalpel_isa_name(i);
  std::printf("%llu seeds, each with%s\n", static_cast<unsigned long long>(seeds), names.c_str());
  return 0;
}

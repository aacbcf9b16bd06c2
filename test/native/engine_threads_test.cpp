// The cpu engine under the thread sanitizer: a small residual network with a sparse layer trains with one
// thread, with two, which share the two image blocks evenly, so that elementwise work takes turns with
// convolutions (ops/row_work.h), and with four, in two sessions at once; every weight comes out equal.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "engine/engines.h"

namespace {

constexpr int kImages = 20, kChannels = 3, kSide = 8, kFilters = 24, kClasses = 5;

void require_that(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "failed: %s\n", what);
  std::exit(1);
}

// Some numbers in (-1, 1).
float noise(int64_t i, int salt) { return static_cast<float>(std::sin(12.9898 * (i + 1) + 78.233 * salt)); }

RpNode node(const char* name, RpOp op, int input, int channels, int side) {
  RpNode n{};
  n.name = name;
  n.op = op;
  n.inputs[0] = input;
  n.inputs[1] = n.params[0] = n.params[1] = n.buffers[0] = n.buffers[1] = -1;
  n.channels = channels;
  n.height = n.width = side;
  n.epsilon = 1e-5;
  n.momentum = 0.1;
  return n;
}

RpNode conv(const char* name, int input, int param) {
  RpNode n = node(name, RP_OP_CONV2D, input, kFilters, kSide);
  n.kernel_h = n.kernel_w = 3;
  n.stride = n.padding = 1;
  n.params[0] = param;
  return n;
}

RpParam param(const char* name, std::vector<int32_t> shape) {
  RpParam p{};
  p.name = name;
  p.rank = static_cast<int32_t>(shape.size());
  p.numel = 1;
  for (int i = 0; i < p.rank; i++) p.numel *= p.shape[i] = shape[i];
  p.nnz = p.numel;
  p.weight_decay = 5e-4;
  return p;
}

// conv - bn - relu - sparse conv - add - global average - linear.
struct Model {
  std::vector<uint8_t> mask;
  std::vector<RpNode> nodes;
  std::vector<RpParam> params;
  std::vector<RpBuffer> buffers{{"bn.running_mean", kFilters}, {"bn.running_var", kFilters}};
  RpModel abi{};

  Model() {
    params = {param("conv1.weight", {kFilters, kChannels, 3, 3}),
              param("bn.weight", {kFilters}),
              param("bn.bias", {kFilters}),
              param("conv2.weight", {kFilters, kFilters, 3, 3}),
              param("fc.weight", {kClasses, kFilters}),
              param("fc.bias", {kClasses})};
    mask.assign((params[3].numel + 7) / 8, 0);
    params[3].nnz = 0;
    for (int64_t i = 0; i < params[3].numel; i += 1 + i % 13) {
      mask[i >> 3] |= 1 << (i & 7);
      params[3].nnz++;
    }
    params[3].mask = mask.data();

    nodes = {node("input", RP_OP_INPUT, -1, kChannels, kSide),
             conv("conv1", 0, 0),
             node("bn", RP_OP_BATCH_NORM, 1, kFilters, kSide),
             node("relu", RP_OP_RELU, 2, kFilters, kSide),
             conv("conv2", 3, 3),
             node("add", RP_OP_ADD, 4, kFilters, kSide),
             node("pool", RP_OP_GLOBAL_AVG_POOL, 5, kFilters, 1),
             node("fc", RP_OP_LINEAR, 6, kClasses, 1)};
    nodes[2].params[0] = 1;
    nodes[2].params[1] = 2;
    nodes[2].buffers[0] = 0;
    nodes[2].buffers[1] = 1;
    nodes[5].inputs[1] = 3;
    nodes[7].params[0] = 4;
    nodes[7].params[1] = 5;
    abi = {static_cast<int32_t>(nodes.size()),
           static_cast<int32_t>(params.size()),
           static_cast<int32_t>(buffers.size()),
           nodes.data(),
           params.data(),
           buffers.data()};
  }
};

struct Batches {
  std::vector<float> images = std::vector<float>(kImages * kChannels * kSide * kSide);
  std::vector<int32_t> labels = std::vector<int32_t>(kImages);

  static int fetch(void* self, int64_t step, int32_t micro, RpBatch* batch, double* weight, RpError*) {
    auto* batches = static_cast<Batches*>(self);
    if (micro == 2) {
      batch->n = 0;
      return 0;
    }
    for (size_t i = 0; i < batches->images.size(); i++) {
      batches->images[i] = noise(static_cast<int64_t>(i), static_cast<int>(2 * step + micro));
    }
    for (int i = 0; i < kImages; i++) batches->labels[i] = static_cast<int32_t>((i + step) % kClasses);
    *batch = {batches->images.data(), sizeof(float), batches->labels.data(), kImages};
    *weight = 0.5;
    return 0;
  }
};

std::vector<float> train(int threads) {
  const RpEngineApi& api = *rp_cpu_engine(RP_ENGINE_ABI_VERSION);
  const Model model;
  RpSessionConfig config{kImages, threads, 0,       RP_PROGRAM_TRAIN | RP_PROGRAM_EVAL,
                         nullptr, 0,       nullptr, nullptr};
  RpSession* session = nullptr;
  RpError error;
  const auto check = [&](int status) { require_that(status == 0, error.message); };
  check(api.create(&model.abi, &config, &session, &error));
  for (size_t p = 0; p < model.params.size(); p++) {
    std::vector<float> values(model.params[p].nnz);
    for (size_t i = 0; i < values.size(); i++)
      values[i] = 0.3f * noise(static_cast<int64_t>(i), 100 + static_cast<int>(p));
    if (p == 1) values.assign(values.size(), 1.0f);
    check(api.write(session, RP_VALUE, static_cast<int32_t>(p), values.data(),
                    static_cast<int64_t>(values.size()), &error));
  }

  Batches batches;
  const RpBatchSource source{&batches, Batches::fetch};
  const std::vector<double> lr(4, 0.05);
  RpRun run{};
  run.steps = static_cast<int64_t>(lr.size());
  run.lr = lr.data();
  run.momentum = 0.9;
  run.loss.logit_scale = 1;
  run.source = &source;
  RpRunResult result;
  check(api.run(session, &run, &result, &error));
  require_that(result.steps_done == run.steps && result.failed_step == -1, "every step is done");

  std::vector<float> out;
  for (size_t p = 0; p < model.params.size(); p++) {
    std::vector<float> values(model.params[p].nnz);
    check(api.read(session, RP_VALUE, static_cast<int32_t>(p), values.data(),
                   static_cast<int64_t>(values.size()), &error));
    out.insert(out.end(), values.begin(), values.end());
  }
  api.destroy(session);
  return out;
}

}  // namespace

int main() {
  const std::vector<float> one = train(1);
  const std::vector<float> two = train(2);
  std::vector<float> four, beside;
  std::thread other([&] { beside = train(4); });
  four = train(4);
  other.join();
  const auto equal = [&](const std::vector<float>& b) {
    return one.size() == b.size() && std::memcmp(one.data(), b.data(), one.size() * sizeof(float)) == 0;
  };
  require_that(std::isfinite(one[0]) && equal(two) && equal(four) && equal(beside),
               "one, two and four threads give equal weights");
  std::puts("engine_threads_test: passed");
}

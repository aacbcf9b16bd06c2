// Times each pass of a convolution layer, sparse and dense ours, beside oneDNN's dense primitive: one
// process, taking turns, caches flushed before each call, medians with spread. Verifies against a
// double-precision sample first.
//
//   usage: rp_bench_layers SHAPES.txt [--sparsity 0.5,0.9] [--threads N] [--repetitions N] [--filter TEXT]
//   [--measure] [--choice TEXT]
//
// The first line holds the measured ceilings of the machine; then one JSON object a line and layer ×
// sparsity, with its share of those measured beside each pass. Sparsity 0 is our dense kernel.
#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "ceilings.h"
#include "cpu/huge_pages.h"
#include "cpu/threads.h"
#include "onednn_peer.h"
#include "ops/conv.h"

namespace {

using rp::ConvShape;
using rp::Layout;

struct Layer {
  std::string name;
  int images;
  ConvShape shape;
};

double now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

std::vector<Layer> read_shapes(const char* path) {
  std::vector<Layer> layers;
  FILE* file = std::fopen(path, "r");
  if (!file) {
    std::fprintf(stderr, "%s: cannot be read\n", path);
    std::exit(2);
  }
  char line[512], name[128];
  while (std::fgets(line, sizeof line, file)) {
    Layer l;
    ConvShape& s = l.shape;
    if (line[0] == '#') continue;
    if (std::sscanf(line, "%127s %d %d %d %d %d %d %d %d %d", name, &l.images, &s.in_channels,
                    &s.out_channels, &s.in_height, &s.in_width, &s.kernel_h, &s.kernel_w, &s.stride,
                    &s.padding) == 10) {
      l.name = name;
      layers.push_back(l);
    }
  }
  std::fclose(file);
  return layers;
}

// An activation in the engine's layout, on huge pages, zero outside the image.
class Tensor {
 public:
  Tensor(const Layout& layout, int images) : layout_(layout), memory_(layout.floats(images)) {
    memory_.touch();
  }
  float* base() { return memory_.data() + layout_.margin; }
  float& at(int n, int c, int h, int w) { return base()[layout_.at(n / 16, c, h, w) + n % 16]; }
  void fill(int images, uint64_t seed) {
    std::mt19937_64 generator(seed);
    std::uniform_real_distribution<float> uniform(-1, 1);
    for (int n = 0; n < images; n++)
      for (int c = 0; c < layout_.channels; c++)
        for (int h = 0; h < layout_.height; h++)
          for (int w = 0; w < layout_.width; w++) at(n, c, h, w) = uniform(generator);
  }

 private:
  Layout layout_;
  rp::HugePages memory_;
};

void flush_caches() {
  static std::vector<char> lines(64 << 20);
  for (size_t i = 0; i < lines.size(); i += 64) lines[i]++;
}

// One core a thread, as the team has it: a thread that wakes on another's core would stay there for
// milliseconds.
void pin_openmp(int threads, const std::vector<int>& cores) {
  omp_set_num_threads(threads);
#pragma omp parallel
  {
    cpu_set_t own;
    CPU_ZERO(&own);
    CPU_SET(cores[omp_get_thread_num() % cores.size()], &own);
    sched_setaffinity(0, sizeof own, &own);
  }
}

void spin(double seconds) {
  for (const double until = now() + seconds; now() < until;) {
  }
}

// Threads of the side that ran last still spin for work and would hold the cores of the other's: they are
// given time to fall asleep. Those of the side about to run are woken and their cores brought out of idle, so
// that neither side pays for the other.
void change_sides(bool ours, rp::ThreadTeam& team) {
  spin(8e-3);
  if (ours) {
    team.parallel([](int) { spin(1e-3); });
  } else {
#pragma omp parallel
    spin(1e-3);
  }
}

struct Timing {
  double median, low, high;  // milliseconds; quartiles
};

Timing summarise(std::vector<double> seconds) {
  std::sort(seconds.begin(), seconds.end());
  const size_t n = seconds.size();
  return {seconds[n / 2] * 1e3, seconds[n / 4] * 1e3, seconds[n - 1 - n / 4] * 1e3};
}

struct Case {
  std::vector<int64_t> kept;  // flat OIHW indices
  std::vector<float> values;
  std::vector<uint8_t> bits;
};

Case draw(const ConvShape& s, double sparsity, uint64_t seed) {
  Case c;
  std::mt19937_64 generator(seed);
  std::uniform_real_distribution<double> uniform(0, 1);
  const int64_t numel = s.numel();
  c.bits.assign((numel + 7) / 8, 0);
  for (int64_t i = 0; i < numel; i++) {
    if (uniform(generator) < sparsity) continue;
    c.bits[i >> 3] |= 1 << (i & 7);
    c.kept.push_back(i);
    c.values.push_back(static_cast<float>(uniform(generator) * 2 - 1));
  }
  return c;
}

// Largest |got - expected| / Σ|terms| over sampled outputs of the three passes.
double verify(const Layer& layer, const Case& c, Tensor& x, Tensor& y, Tensor& dy, Tensor& dx,
              const std::vector<float>& dw) {
  const ConvShape& s = layer.shape;
  const int P = s.out_height(), Q = s.out_width();
  std::mt19937_64 generator(1);
  const auto pick = [&](int n) { return static_cast<int>(generator() % n); };
  double worst = 0;
  const auto check = [&](double got, double expected, double magnitude) {
    worst = std::max(worst, std::abs(got - expected) / (magnitude + 1e-6));
  };
  std::vector<std::vector<size_t>> by_output(s.out_channels), by_input(s.in_channels);
  const auto split = [&](int64_t flat, int& k, int& ch, int& r, int& t) {
    t = flat % s.kernel_w;
    r = flat / s.kernel_w % s.kernel_h;
    ch = flat / (s.kernel_w * s.kernel_h) % s.in_channels;
    k = flat / (int64_t{s.kernel_w} * s.kernel_h * s.in_channels);
  };
  for (size_t j = 0; j < c.kept.size(); j++) {
    int k, ch, r, t;
    split(c.kept[j], k, ch, r, t);
    by_output[k].push_back(j);
    by_input[ch].push_back(j);
  }
  for (int sample = 0; sample < 300; sample++) {
    int n = pick(layer.images), k = pick(s.out_channels), p = pick(P), q = pick(Q);
    double sum = 0, magnitude = 0;
    for (size_t j : by_output[k]) {
      int kk, ch, r, t;
      split(c.kept[j], kk, ch, r, t);
      const int h = p * s.stride + r - s.padding, w = q * s.stride + t - s.padding;
      if (h < 0 || w < 0 || h >= s.in_height || w >= s.in_width) continue;
      const double term = double{c.values[j]} * x.at(n, ch, h, w);
      sum += term;
      magnitude += std::abs(term);
    }
    check(y.at(n, k, p, q), sum, magnitude);
    const int ch = pick(s.in_channels), h = pick(s.in_height), w = pick(s.in_width);
    sum = magnitude = 0;
    for (size_t j : by_input[ch]) {
      int kk, cc, r, t;
      split(c.kept[j], kk, cc, r, t);
      int pp = h - r + s.padding, qq = w - t + s.padding;
      if (pp < 0 || qq < 0 || pp % s.stride || qq % s.stride) continue;
      pp /= s.stride;
      qq /= s.stride;
      if (pp >= P || qq >= Q) continue;
      const double term = double{c.values[j]} * dy.at(n, kk, pp, qq);
      sum += term;
      magnitude += std::abs(term);
    }
    check(dx.at(n, ch, h, w), sum, magnitude);
  }
  for (int sample = 0; sample < 20 && !c.kept.empty(); sample++) {
    const size_t j = generator() % c.kept.size();
    int k, ch, r, t;
    split(c.kept[j], k, ch, r, t);
    double sum = 0, magnitude = 0;
    for (int n = 0; n < layer.images; n++)
      for (int p = 0; p < P; p++)
        for (int q = 0; q < Q; q++) {
          const int h = p * s.stride + r - s.padding, w = q * s.stride + t - s.padding;
          if (h < 0 || w < 0 || h >= s.in_height || w >= s.in_width) continue;
          const double term = double{dy.at(n, k, p, q)} * x.at(n, ch, h, w);
          sum += term;
          magnitude += std::abs(term);
        }
    check(dw[j], sum, magnitude);
  }
  return worst;
}

// What a pass cannot do without: multiply-adds of kept weights with positions inside the map, and its
// activations once from and to memory.
struct Work {
  double flops, bytes;
  int flops_a_load;  // multiply-adds that share a loaded operand
};

// The least time that the ceilings of the moment leave it.
struct Bound {
  double compute, memory;  // seconds
  double longer() const { return std::max(compute, memory); }
};

enum Pass { kForward, kDgrad, kWgrad, kBackward };  // kBackward: both gradients by one kernel
constexpr const char* kPassNames[] = {"forward", "dgrad", "wgrad", "backward"};

Work work_of(const Layer& layer, const Case& c, Pass pass) {
  const ConvShape& s = layer.shape;
  // Output positions from which a kernel row (column) lies inside the map.
  const auto inside = [&](int tap, int in, int out) {
    int count = 0;
    for (int p = 0; p < out; p++) {
      const int at = p * s.stride + tap - s.padding;
      count += at >= 0 && at < in;
    }
    return count;
  };
  double macs = 0;
  const int taps = s.kernel_h * s.kernel_w;
  std::vector<int64_t> kept(taps);
  for (const int64_t flat : c.kept) kept[flat % taps]++;
  for (int t = 0; t < taps; t++) {
    macs += double(kept[t]) * inside(t / s.kernel_w, s.in_height, s.out_height()) *
            inside(t % s.kernel_w, s.in_width, s.out_width());
  }
  macs *= layer.images;
  // A kernel smaller than its stride leaves out rows and columns of x; dgrad writes them all the same.
  const bool writes_all = pass == kDgrad || pass == kBackward;
  const double rows = writes_all ? 1 : double(std::min(s.kernel_h, s.stride)) / s.stride;
  const double cols = writes_all ? 1 : double(std::min(s.kernel_w, s.stride)) / s.stride;
  const double x = 4.0 * layer.images * s.in_channels * s.in_height * s.in_width * rows * cols;
  const double y = 4.0 * layer.images * s.out_channels * s.out_height() * s.out_width();
  if (pass == kBackward) return {4 * macs, 2 * x + y, 2};
  return {2 * macs, x + y, 1};
}

// Ceilings measured before and after a pass.
using Bracket = std::array<rp_bench::Ceilings, 2>;

// Sparse kernels load an operand for each multiply-add, or for two, which are then bound by either rate.
Bound bound_of(const Work& work, bool dense, Pass pass, const Bracket& ceilings) {
  Bound bound = {0, 0};
  for (const rp_bench::Ceilings& c : ceilings) {
    const double loads = dense ? 0 : work.flops / work.flops_a_load / c.load_fma;
    const double adds = dense || work.flops_a_load > 1 ? work.flops / c.fma : 0;
    bound.compute += 0.5e-9 * std::max(loads, adds);
    bound.memory += 0.5e-9 * work.bytes / (pass == kWgrad ? c.read : c.copy);
  }
  return bound;
}

void bench(const Layer& layer, double sparsity, int repetitions, bool measure, const std::string& choice,
           rp_bench::CeilingMeter& meter, rp::ThreadTeam& team) {
  const ConvShape& s = layer.shape;
  const Case c = draw(s, sparsity, 12345);
  const int64_t nnz = static_cast<int64_t>(c.kept.size());
  rp::ConvLayouts layouts;
  layouts.x = rp::make_layout(s.in_channels, s.in_height, s.in_width, rp::conv_input_border(s));
  layouts.y = rp::make_layout(s.out_channels, s.out_height(), s.out_width(), 0);
  layouts.dy = rp::make_layout(s.out_channels, s.out_height(), s.out_width(), rp::conv_dy_border(s));
  layouts.dx = rp::make_layout(s.in_channels, s.in_height, s.in_width, 0);
  Tensor x(layouts.x, layer.images), y(layouts.y, layer.images), dy(layouts.dy, layer.images),
      dx(layouts.dx, layer.images);
  x.fill(layer.images, 1);
  dy.fill(layer.images, 2);
  std::vector<float> dw(nnz);
  rp::ConvOptions options;
  options.measure = measure;
  options.choice = choice;
  options.max_blocks = rp::image_blocks(layer.images);
  const rp::MaskView mask{sparsity > 0 ? c.bits.data() : nullptr, nnz};
  const auto conv = rp::make_conv(s, mask, layouts, options, team);
  const auto weights = conv->make_weights();
  const int blocks = options.max_blocks;
  rp::ConvBackward both;
  both.x = x.base();
  both.dy = dy.base();
  both.dx = dx.base();
  both.dw = dw.data();
  const std::function<void()> ours[] = {
      [&] {
        conv->pack(c.values.data(), *weights, team);
        conv->forward(x.base(), *weights, y.base(), blocks, false, team);
      },
      [&] { conv->dgrad(dy.base(), *weights, dx.base(), blocks, rp::kWriteAll, team); },
      [&] { conv->wgrad(x.base(), dy.base(), dw.data(), blocks, false, team); },
      [&] { conv->backward(both, *weights, blocks, team); }};
  const std::vector<Pass> passes = conv->one_backward_kernel()
                                       ? std::vector<Pass>{kForward, kBackward}
                                       : std::vector<Pass>{kForward, kDgrad, kWgrad};
  for (const Pass pass : passes) ours[pass]();
  const double error = verify(layer, c, x, y, dy, dx, dw);
  if (!(error < 1e-5)) {
    std::fprintf(stderr, "%s at sparsity %g: wrong result, relative error %g\n", layer.name.c_str(), sparsity,
                 error);
    std::exit(1);
  }
  rp_bench::OneDnnPeer peer(layer.images, s);
  const std::function<void()> theirs[] = {[&] { peer.forward(); }, [&] { peer.dgrad(); },
                                          [&] { peer.wgrad(); }};
  const bool dense = sparsity == 0;
  Work work[4];
  for (const Pass pass : passes) work[pass] = work_of(layer, c, pass);
  std::vector<double> seconds[2][4], of_bound[4];
  int memory_bound[4] = {};
  const auto time = [&](bool mine, const std::function<void()>& run) {
    flush_caches();
    // The other side's caches hold what measuring the ceilings leaves, too.
    if (!mine) meter.now(dense);
    change_sides(mine, team);
    rp_bench::Ceilings ceilings[2];
    if (mine) ceilings[0] = meter.now(dense);
    const double start = now();
    run();
    const double taken = now() - start;
    if (mine) ceilings[1] = meter.now(dense);
    return std::make_pair(taken, Bracket{ceilings[0], ceilings[1]});
  };
  for (int repetition = -1; repetition < repetitions; repetition++) {
    for (const Pass pass : passes) {
      const auto [taken, ceilings] = time(true, ours[pass]);
      double dense_taken = 0;
      for (const Pass one : pass == kBackward ? std::vector<Pass>{kDgrad, kWgrad} : std::vector<Pass>{pass})
        dense_taken += time(false, theirs[one]).first;
      if (repetition < 0) continue;
      seconds[0][pass].push_back(taken);
      seconds[1][pass].push_back(dense_taken);
      const Bound bound = bound_of(work[pass], dense, pass, ceilings);
      of_bound[pass].push_back(bound.longer() / taken);
      memory_bound[pass] += bound.memory > bound.compute;
    }
  }
  const double macs = double(layer.images) * s.out_height() * s.out_width() * nnz;
  std::printf(
      "{\"layer\":\"%s\",\"shape\":[%d,%d,%d,%d,%d,%d,%d,%d],\"images\":%d,\"sparsity\":%g,\"nnz\":%lld,"
      "\"threads\":%d,\"error\":%.2g,\"choice\":"
      "\"%s\","
      "\"kernel\":\"%s\",\"bytes\":%lld",
      layer.name.c_str(), s.in_channels, s.out_channels, s.in_height, s.in_width, s.kernel_h, s.kernel_w,
      s.stride, s.padding, layer.images, sparsity, static_cast<long long>(nnz), team.size(), error,
      conv->choice().c_str(), conv->kernel().c_str(),
      // Values, gradients, momentum; what the kernels hold beside them.
      static_cast<long long>(12 * nnz + conv->index_bytes() + conv->weights_bytes()));
  double total[2] = {0, 0};
  for (const Pass pass : passes) {
    const Timing mine = summarise(seconds[0][pass]), theirs_taken = summarise(seconds[1][pass]);
    const double gflops = (pass == kBackward ? 4e-6 : 2e-6) * macs / mine.median;
    std::sort(of_bound[pass].begin(), of_bound[pass].end());
    total[0] += mine.median;
    total[1] += theirs_taken.median;
    std::printf(
        ",\"%s\":{\"ms\":%.4g,\"ms_quartiles\":[%.4g,%.4g],\"onednn_ms\":%.4g,\"onednn_quartiles\":[%.4g,%."
        "4g],"
        "\"gflops\":%.4g,\"bound\":\"%s\",\"of_bound\":%.3g,\"speedup\":%.4g}",
        kPassNames[pass], mine.median, mine.low, mine.high, theirs_taken.median, theirs_taken.low,
        theirs_taken.high, gflops, 2 * memory_bound[pass] > repetitions ? "memory" : "compute",
        of_bound[pass][repetitions / 2], theirs_taken.median / mine.median);
  }
  std::printf(",\"speedup\":%.4g,\"onednn\":\"%s\"}\n", total[1] / total[0],
              rp_bench::OneDnnPeer::version().c_str());
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<double> sparsities = {0, .5, .7, .8, .9, .95, .98};
  int threads = 0, repetitions = 9;
  bool measure = false;
  std::string filter, choice;
  const char* shapes = nullptr;
  for (int i = 1; i < argc; i++) {
    const std::string a = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : "";
    if (a == "--measure") {
      measure = true;
    } else if (a == "--threads" || a == "--repetitions" || a == "--filter" || a == "--sparsity" ||
               a == "--choice") {
      i++;
      if (a == "--threads") threads = std::atoi(value);
      if (a == "--repetitions") repetitions = std::atoi(value);
      if (a == "--filter") filter = value;
      if (a == "--choice") choice = value;
      if (a == "--sparsity") {
        sparsities.clear();
        std::string list = value;
        for (char* part = std::strtok(list.data(), ","); part; part = std::strtok(nullptr, ",")) {
          sparsities.push_back(std::atof(part));
        }
      }
    } else {
      shapes = argv[i];
    }
  }
  if (!shapes) {
    std::fprintf(stderr,
                 "usage: rp_bench_layers SHAPES.txt [--sparsity 0.5,0.9] [--threads N] [--repetitions N] "
                 "[--filter TEXT] [--measure] [--choice TEXT]\n");
    return 2;
  }
  if (threads == 0) threads = rp::available_cores();
  // Before the team pins this thread.
  const std::vector<int> cores = rp::allowed_cores();
  rp::ThreadTeam team(threads, true);
  rp_bench::CeilingMeter meter(team);
  const rp_bench::Ceilings ceilings = meter.best();
  pin_openmp(team.size(), cores);
  std::printf(
      "{\"ceilings\":{\"isa\":\"%s\",\"threads\":%d,\"fma_gflops\":%.4g,\"load_fma_gflops\":%.4g,"
      "\"read_gbs\":%.4g,\"copy_gbs\":%.4g,\"beside_passes\":true}}\n",
      rp::isa_name(rp::cpu_isa()), team.size(), ceilings.fma, ceilings.load_fma, ceilings.read,
      ceilings.copy);
  std::fflush(stdout);
  for (const Layer& layer : read_shapes(shapes)) {
    if (layer.name.find(filter) == std::string::npos) continue;
    for (const double sparsity : sparsities)
      bench(layer, sparsity, repetitions, measure, choice, meter, team);
  }
}

// The kernel lists for conformance tests and benches (src/engine/kernels.ts documents the functions). Tests
// meet kernels in logical shapes; conversion to the CPU layout, and what a kernel must not touch, are handled
// here.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "bindings/bindings.h"
#include "bindings/errors.h"
#include "core/error.h"
#include "core/layout.h"
#include "cpu/features.h"
#include "cpu/huge_pages.h"
#include "cpu/threads.h"
#include "ops/conv.h"
#include "ops/conv_ref.h"
#include "ops/row_work.h"

namespace rp {
namespace {

struct KernelName {
  const char *name, *op;
  Isa isa;
};

constexpr KernelName kKernels[] = {
#define KERNEL(name, op, isa) {#name, #op, Isa::isa},
#include "ops/conv.kernels.inc"
#undef KERNEL
};

// kernels() -> {name, op, isa, available}[]
Napi::Value kernels(const Napi::CallbackInfo& info) {
  Napi::Array list = Napi::Array::New(info.Env());
  for (const KernelName& kernel : kKernels) {
    Napi::Object entry = Napi::Object::New(info.Env());
    entry.Set("name", kernel.name);
    entry.Set("op", kernel.op);
    entry.Set("isa", isa_name(kernel.isa));
    entry.Set("available", isa_available(kernel.isa));
    list.Set(list.Length(), entry);
  }
  return list;
}

// ---- an activation in the CPU layout

class Activation {
 public:
  Activation(const Layout& layout, int n)
      : layout_(layout), n_(n), blocks_(image_blocks(n)), memory_(layout.floats(n)) {}

  float* base() const { return memory_.data() + layout_.margin; }
  // Image (b, lane) and position -> offset in memory; visit(image or -1 for padding, c, h, w, value).
  template <class Visit>
  void each(const Visit& visit) const {
    for (int image = 0; image < blocks_ * kImagesPerBlock; image++) {
      for (int c = 0; c < layout_.channels; c++) {
        for (int h = 0; h < layout_.height; h++) {
          for (int w = 0; w < layout_.width; w++) {
            float& value = base()[layout_.at(image / kImagesPerBlock, c, h, w) + image % kImagesPerBlock];
            visit(image < n_ ? index(image, c, h, w) : -1, value);
          }
        }
      }
    }
  }
  // values: (n, C, H, W), or null: `rest` everywhere; images of padding get `rest`.
  void fill(const float* values, float rest) {
    each([&](int64_t at, float& value) { value = at >= 0 && values != nullptr ? values[at] : rest; });
  }
  Napi::Float32Array read(Napi::Env env) const {
    auto out = Napi::Float32Array::New(env, int64_t{n_} * layout_.channels * layout_.height * layout_.width);
    float* values = out.Data();
    each([&](int64_t at, float& value) {
      if (at >= 0) values[at] = value;
    });
    return out;
  }
  // Everything but positions of images is zero: borders, margins, the odd line of a row.
  void check_borders(const char* name) {
    fill(nullptr, 0);
    for (int64_t i = 0; i < layout_.floats(n_); i++) {
      if (memory_.data()[i] != 0) fail("[conv] a kernel wrote outside the maps of %s.", name);
    }
  }

 private:
  int64_t index(int64_t image, int c, int h, int w) const {
    return ((image * layout_.channels + c) * layout_.height + h) * layout_.width + w;
  }

  Layout layout_;
  int n_, blocks_;
  HugePages memory_;
};

// A tensor as a pass meets it that reads what is made in turns: copied row by row, borders included, to
// memory of each thread that holds one image block and says NaN before.
class MadeInTurns {
 public:
  MadeInTurns(const Layout& layout, const float* from, int threads)
      : copy_{layout, from, this}, work_(layout, 1, copy_) {
    const int64_t floats = layout.floats(kImagesPerBlock);
    memory_.assign(threads, std::vector<float>(floats + 16, std::numeric_limits<float>::quiet_NaN()));
    for (std::vector<float>& of_thread : memory_) {
      const int64_t over = reinterpret_cast<uintptr_t>(of_thread.data()) / 4 % 16;
      of_members_.push_back(of_thread.data() + (16 - over) % 16 + layout.margin);
    }
  }
  MadeInTurns(const MadeInTurns&) = delete;
  MadeInTurns& operator=(const MadeInTurns&) = delete;

  const RowWork* work() const { return &work_; }
  float* const* of_members() const { return of_members_.data(); }

 private:
  struct Copy {
    Layout layout;
    const float* from;
    const MadeInTurns* to;
    void operator()(int64_t begin, int64_t end, const RowTurn& turn) const {
      for (int64_t row = begin; row < end; row++) {
        const int64_t h = row % layout.height;
        const int64_t rows = h + 1 < layout.height ? 1 : 1 + layout.border;
        std::copy_n(from + layout.at(row / layout.height, 0, h, 0), rows * layout.row_stride,
                    to->of_members_[turn.member] + h * layout.row_stride);
      }
    }
  };

  Copy copy_;
  RowWork work_;
  std::vector<std::vector<float>> memory_;
  std::vector<float*> of_members_;
};

// ---- runConv

int whole(const Napi::Object& object, const char* key) {
  return object.Get(key).As<Napi::Number>().Int32Value();
}

ConvShape shape_of(const Napi::Object& o) {
  ConvShape s{};
  s.in_channels = whole(o, "inChannels");
  s.out_channels = whole(o, "outChannels");
  s.in_height = whole(o, "height");
  s.in_width = whole(o, "width");
  s.kernel_h = whole(o, "kernelHeight");
  s.kernel_w = whole(o, "kernelWidth");
  s.stride = whole(o, "stride");
  s.padding = whole(o, "padding");
  return s;
}

const float* floats(const Napi::Object& o, const char* key, int64_t count) {
  auto array = o.Get(key).As<Napi::Float32Array>();
  if (static_cast<int64_t>(array.ElementLength()) != count) {
    fail("[runConv] expected %s to have %lld values, got %lld.", key, static_cast<long long>(count),
         static_cast<long long>(array.ElementLength()));
  }
  return array.Data();
}

Napi::Value run_conv(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto o = info[0].As<Napi::Object>();
  const ConvShape s = shape_of(o.Get("shape").As<Napi::Object>());
  const int n = whole(o, "n"), blocks = image_blocks(n);
  const int64_t numel = s.numel();
  MaskView mask;
  mask.nnz = numel;
  if (o.Get("mask").IsTypedArray()) {
    auto bits = o.Get("mask").As<Napi::Uint8Array>();
    mask.bits = bits.Data();
    mask.nnz = 0;
    for (size_t i = 0; i < bits.ElementLength(); i++) mask.nnz += __builtin_popcount(bits[i]);
  }
  const int64_t in_count = int64_t{n} * s.in_channels * s.in_height * s.in_width;
  const int64_t out_count = int64_t{n} * s.out_channels * s.out_height() * s.out_width();
  const float *x_values = floats(o, "x", in_count), *dy_values = floats(o, "dy", out_count);
  const float* w_values = floats(o, "w", mask.nnz);
  const bool add = o.Get("add").ToBoolean();

  ConvLayouts layouts;
  const int extra = o.Has("extraBorder") ? whole(o, "extraBorder") : 0;
  layouts.x = make_layout(s.in_channels, s.in_height, s.in_width, conv_input_border(s) + extra);
  layouts.y = make_layout(s.out_channels, s.out_height(), s.out_width(), extra);
  layouts.dy = make_layout(s.out_channels, s.out_height(), s.out_width(), conv_dy_border(s) + extra);
  layouts.dx = make_layout(s.in_channels, s.in_height, s.in_width, extra);

  ThreadTeam team(whole(o, "threads"));
  ConvOptions options;
  options.isa = o.Get("isa").ToString();
  options.choice = o.Get("choice").IsString() ? std::string(o.Get("choice").ToString()) : std::string();
  options.measure = o.Get("measure").ToBoolean();
  options.max_blocks = blocks;
  const std::unique_ptr<ConvLayer> layer = make_conv(s, mask, layouts, options, team);
  const std::unique_ptr<ConvWeights> weights = layer->make_weights();
  layer->pack(w_values, *weights, team);

  // Unwritten outputs show as NaN. Padding images: anything finite forward, zero gradients backward.
  const float unwritten = std::numeric_limits<float>::quiet_NaN();
  Activation x(layouts.x, n), y(layouts.y, n), dy(layouts.dy, n), dx(layouts.dx, n);
  x.fill(x_values, 3e3f);
  dy.fill(dy_values, 0);
  y.fill(add ? floats(o, "y", out_count) : nullptr, unwritten);
  dx.fill(add ? floats(o, "dx", in_count) : nullptr, unwritten);
  auto dw = Napi::Float32Array::New(env, mask.nnz);
  const float* dw_before = add ? floats(o, "dw", mask.nnz) : nullptr;
  for (int64_t i = 0; i < mask.nnz; i++) dw.Data()[i] = add ? dw_before[i] : unwritten;
  const PhaseWrite write_dx = add ? kAddToAll : kWriteAll;
  const std::string turns = o.Get("inTurns").IsString() ? std::string(o.Get("inTurns").ToString()) : "";
  const bool joint = !turns.empty() && has_joint_backward(s, mask, layouts);
  MadeInTurns made_x(layouts.x, x.base(), team.size()), made_dy(layouts.dy, dy.base(), team.size());
  if (turns.empty()) {
    layer->forward(x.base(), *weights, y.base(), blocks, add, team);
  } else {
    const ConvCompanions makes_x = {made_x.work(), nullptr, made_x.of_members()};
    layer->forward(nullptr, *weights, y.base(), blocks, add, team, nullptr, makes_x);
  }
  ConvBackward run;
  run.dx = dx.base();
  run.write_dx = write_dx;
  run.dw = dw.Data();
  run.add_dw = add;
  if (joint && turns == "both") {
    run.makes_x = made_x.work();
    run.made_x = made_x.of_members();
  } else {
    run.x = x.base();
  }
  if (joint) {
    run.beside = {made_dy.work(), nullptr, made_dy.of_members()};
  } else {
    run.dy = dy.base();
  }
  layer->backward(run, *weights, blocks, team);

  Napi::Object result = Napi::Object::New(env);
  result.Set("joint", joint);
  result.Set("y", y.read(env));
  result.Set("dx", dx.read(env));
  result.Set("dw", dw);
  result.Set("choice", layer->choice());
  result.Set("kernel", layer->kernel());
  result.Set("indexBytes", static_cast<double>(layer->index_bytes()));
  result.Set("weightsBytes", static_cast<double>(layer->weights_bytes()));
  result.Set("scratchBytes", static_cast<double>(layer->scratch_bytes()));
  result.Set("bytesBound", static_cast<double>(conv_bytes(s, mask, layouts, team.size(), image_blocks(n))));
  y.check_borders("y");
  dx.check_borders("dx");
  return result;
}

// convReference({shape, n, x, w (dense), dy}) -> doubles
Napi::Value conv_reference(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto o = info[0].As<Napi::Object>();
  const ConvShape s = shape_of(o.Get("shape").As<Napi::Object>());
  const int n = whole(o, "n");
  const int64_t numel = s.numel();
  const int64_t in_count = int64_t{n} * s.in_channels * s.in_height * s.in_width;
  const int64_t out_count = int64_t{n} * s.out_channels * s.out_height() * s.out_width();
  Napi::Object result = Napi::Object::New(env);
  const auto doubles = [&](const char* key, int64_t count) {
    auto array = Napi::Float64Array::New(env, count);
    result.Set(key, array);
    return array.Data();
  };
  ConvReference reference{};
  reference.x = floats(o, "x", in_count);
  reference.w = floats(o, "w", numel);
  reference.dy = floats(o, "dy", out_count);
  reference.y = doubles("y", out_count);
  reference.dx = doubles("dx", in_count);
  reference.dw = doubles("dw", numel);
  reference.y_size = doubles("ySize", out_count);
  reference.dx_size = doubles("dxSize", in_count);
  reference.dw_size = doubles("dwSize", numel);
  conv_ref(s, n, reference);
  return result;
}

template <Napi::Value (*function)(const Napi::CallbackInfo&)>
Napi::Value guarded(const Napi::CallbackInfo& info) {
  try {
    return function(info);
  } catch (...) {
    throw to_js_error(info.Env(), std::current_exception());
  }
}

}  // namespace

void register_kernels(Napi::Env env, Napi::Object exports) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("list", Napi::Function::New(env, guarded<kernels>));
  object.Set("runConv", Napi::Function::New(env, guarded<run_conv>));
  object.Set("convReference", Napi::Function::New(env, guarded<conv_reference>));
  exports.Set("kernels", object);
}

}  // namespace rp

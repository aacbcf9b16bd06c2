// Philox draws for TypeScript (src/random.ts documents each function): plain numbers and typed arrays, filled
// in place. Seeds and indices are whole numbers below 2^53, validated there.
#include "core/random.h"

#include <algorithm>
#include <vector>

#include "bindings/bindings.h"
#include "bindings/errors.h"
#include "cpu/threads.h"

namespace rp {
namespace {

// Below this many elements a second thread costs more than it saves.
constexpr int64_t kElementsPerThread = 1 << 18;

// Splits [0, items) over threads, at multiples of `alignment`.
template <class Body>
void parallel_draws(int64_t items, int64_t alignment, const Body& body) {
  const int64_t useful = std::max<int64_t>(1, items / kElementsPerThread);
  ThreadTeam team(static_cast<int>(std::min<int64_t>(available_cores(), useful)));
  const int64_t units = (items + alignment - 1) / alignment;
  team.parallel_range(units, [&](int64_t begin, int64_t end, int member) {
    body(begin * alignment, std::min(end * alignment, items), member);
  });
}

int64_t whole(const Napi::CallbackInfo& info, size_t argument) {
  return info[argument].As<Napi::Number>().Int64Value();
}

// Arguments first .. first + 3: seed, purpose, epoch, index.
Draws draws_of(const Napi::CallbackInfo& info, size_t first) {
  return Draws(static_cast<uint64_t>(whole(info, first)), static_cast<Purpose>(whole(info, first + 1)),
               static_cast<uint32_t>(whole(info, first + 2)), static_cast<uint32_t>(whole(info, first + 3)));
}

// Turns native exceptions into JavaScript errors.
template <class Body>
Napi::Value guarded(const Napi::CallbackInfo& info, const Body& body) {
  try {
    return body();
  } catch (...) {
    throw to_js_error(info.Env(), std::current_exception());
  }
}

// randomWords(out: Uint32Array, seed, purpose, epoch, index): the words of the draw, block after block.
Napi::Value random_words(const Napi::CallbackInfo& info) {
  auto out = info[0].As<Napi::Uint32Array>();
  Draws draws = draws_of(info, 1);
  for (size_t i = 0; i < out.ElementLength(); i++) out[i] = draws.next();
  return info.Env().Undefined();
}

// philox(counter: Uint32Array(4), key: Uint32Array(2)) -> Uint32Array(4): the bare function, for its test
// vectors.
Napi::Value philox(const Napi::CallbackInfo& info) {
  auto counter = info[0].As<Napi::Uint32Array>(), key = info[1].As<Napi::Uint32Array>();
  const PhiloxWords words = philox4x32_10({counter[0], counter[1], counter[2], counter[3]}, key[0], key[1]);
  auto out = Napi::Uint32Array::New(info.Env(), 4);
  for (size_t i = 0; i < 4; i++) out[i] = words[i];
  return out;
}

// normalQuantile(p): for its test.
Napi::Value quantile(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), normal_quantile(info[0].As<Napi::Number>().DoubleValue()));
}

template <void fill(const Draws&, double, double, int64_t, int64_t, float*)>
Napi::Value fill_floats(const Napi::CallbackInfo& info) {
  auto out = info[0].As<Napi::Float32Array>();
  const double first = info[1].As<Napi::Number>().DoubleValue(),
               second = info[2].As<Napi::Number>().DoubleValue();
  const Draws draws = draws_of(info, 3);
  float* values = out.Data();
  return guarded(info, [&] {
    parallel_draws(static_cast<int64_t>(out.ElementLength()), 2, [&](int64_t begin, int64_t end, int) {
      fill(draws, first, second, begin, end - begin, values + begin);
    });
    return info.Env().Undefined();
  });
}

// bernoulliMask(bits: Uint8Array, numel, density, seed, purpose, epoch, index) -> number of ones
Napi::Value bernoulli_mask(const Napi::CallbackInfo& info) {
  uint8_t* bits = info[0].As<Napi::Uint8Array>().Data();
  const int64_t numel = whole(info, 1);
  const double density = info[2].As<Napi::Number>().DoubleValue();
  const Draws draws = draws_of(info, 3);
  return guarded(info, [&] {
    std::vector<int64_t> ones(available_cores(), 0);
    parallel_draws(numel, kMaskAlignment, [&](int64_t begin, int64_t end, int member) {
      ones[member] = fill_bernoulli_mask(draws, density, begin, end, bits);
    });
    int64_t total = 0;
    for (const int64_t count : ones) total += count;
    return Napi::Number::New(info.Env(), static_cast<double>(total));
  });
}

// exactMask(bits: Uint8Array, numel, keep, seed, purpose, epoch, index)
Napi::Value exact_mask(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    fill_exact_mask(draws_of(info, 3), whole(info, 2), whole(info, 1), info[0].As<Napi::Uint8Array>().Data());
    return info.Env().Undefined();
  });
}

// permutation(out: Uint32Array, seed, purpose, epoch, index): fills it with a permutation of 0 .. length - 1.
Napi::Value permutation(const Napi::CallbackInfo& info) {
  auto out = info[0].As<Napi::Uint32Array>();
  fill_permutation(draws_of(info, 1), static_cast<uint32_t>(out.ElementLength()), out.Data());
  return info.Env().Undefined();
}

}  // namespace

void register_random(Napi::Env env, Napi::Object exports) {
  Napi::Object random = Napi::Object::New(env);
  random.Set("words", Napi::Function::New<random_words>(env, "words"));
  random.Set("philox", Napi::Function::New<philox>(env, "philox"));
  random.Set("normalQuantile", Napi::Function::New<quantile>(env, "normalQuantile"));
  random.Set("fillNormal", Napi::Function::New<fill_floats<fill_normal>>(env, "fillNormal"));
  random.Set("fillUniform", Napi::Function::New<fill_floats<fill_uniform>>(env, "fillUniform"));
  random.Set("bernoulliMask", Napi::Function::New<bernoulli_mask>(env, "bernoulliMask"));
  random.Set("exactMask", Napi::Function::New<exact_mask>(env, "exactMask"));
  random.Set("permutation", Napi::Function::New<permutation>(env, "permutation"));
  exports.Set("random", random);
}

}  // namespace rp

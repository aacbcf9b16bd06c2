#include "data/transform.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/philox.h"

namespace rp {
namespace {

// e^x for |x| <= 1 by its series: the same bits on every machine, which the C library's exp does not promise.
double exp_small(double x) {
  double term = 1, sum = 1;
  for (int k = 1; k < 24; k++) {
    term *= x / k;
    sum += term;
  }
  return sum;
}

constexpr double kLogAspect = 0.28768207245178093;  // ln(4/3)

// Half to even, as Python's round, which torchvision uses.
int round_even(double x) {
  const double low = std::floor(x), rest = x - low;
  const int64_t below = static_cast<int64_t>(low);
  return static_cast<int>(rest > 0.5 || (rest == 0.5 && (below & 1)) ? below + 1 : below);
}

}  // namespace

Box random_resized_box(int height, int width, Draws& draws) {
  const double area = static_cast<double>(height) * width;
  for (int attempt = 0; attempt < 10; attempt++) {
    const double target = area * (0.08 + 0.92 * draws.uniform());
    const double aspect = exp_small(kLogAspect * (2 * draws.uniform() - 1));
    const int w = round_even(std::sqrt(target * aspect)), h = round_even(std::sqrt(target / aspect));
    if (w < 1 || w > width || h < 1 || h > height) continue;
    const int top = static_cast<int>(draws.below(static_cast<uint32_t>(height - h + 1)));
    const int left = static_cast<int>(draws.below(static_cast<uint32_t>(width - w + 1)));
    return {top, left, h, w};
  }
  int h = height, w = width;
  if (4 * width < 3 * height) h = round_even(width / 0.75);
  if (3 * width > 4 * height) w = round_even(height * (4.0 / 3.0));
  return {(height - h) / 2, (width - w) / 2, h, w};
}

Transform::Transform(const TransformSpec& spec, const ImageShape& stored)
    : spec_(spec), stored_(stored), output_(stored) {
  const size_t channels = static_cast<size_t>(stored.channels);
  if (spec.mean.size() != channels || spec.std.size() != channels)
    fail("[transform] expected mean and std of %d channels, got %zu and %zu values.", stored.channels,
         spec.mean.size(), spec.std.size());
  if (spec.kind == TransformSpec::Kind::kCrop) {
    const int limit = spec.reflect ? std::min(stored.height, stored.width) - 1 : 1 << 15;
    if (spec.pad < 0 || spec.pad > limit)
      fail("[transform] expected pad from 0 to %d, got %d.", limit, spec.pad);
  } else {
    if (spec.size < 1 || spec.size > 1 << 14)
      fail("[transform] expected size from 1 to 16384, got %d.", spec.size);
    output_.height = output_.width = spec.size;
  }
  // In float, step by step, as PyTorch's ToTensor and Normalize.
  table_.resize(channels * 256);
  for (size_t c = 0; c < channels; c++) {
    if (!(spec.std[c] > 0)) fail("[transform] expected std above 0, got %g.", spec.std[c]);
    for (int v = 0; v < 256; v++)
      table_[c * 256 + v] = (static_cast<float>(v) / 255.0f - static_cast<float>(spec.mean[c])) /
                            static_cast<float>(spec.std[c]);
  }
}

Transform::Scratch Transform::make_scratch() const {
  Scratch scratch;
  scratch.rendered.resize(static_cast<size_t>(stored_.bytes()));
  scratch.line.resize(static_cast<size_t>(stored_.width + 2 * spec_.pad));
  return scratch;
}

void Transform::apply(const uint8_t* image, const AugmentKey* key, Scratch& scratch, float* out) const {
  if (spec_.kind == TransformSpec::Kind::kCrop) {
    if (!key) return crop(image, spec_.pad, spec_.pad, false, scratch, out);
    Draws draws(key->seed, Purpose::kAugmentation, key->epoch, key->image);
    const uint32_t offsets = static_cast<uint32_t>(2 * spec_.pad + 1);
    const int top = static_cast<int>(draws.below(offsets)), left = static_cast<int>(draws.below(offsets));
    return crop(image, top, left, draws.below(2) == 1, scratch, out);
  }

  const int side = spec_.size, height = stored_.height, width = stored_.width;
  Box box{0, 0, height, width}, window{0, 0, side, side};
  int full_height = side, full_width = side;
  bool flip = false;
  if (key) {
    Draws draws(key->seed, Purpose::kAugmentation, key->epoch, key->image);
    box = random_resized_box(height, width, draws);
    flip = draws.below(2) == 1;
  } else {
    // torchvision's Resize(256), CenterCrop(224), in proportion for other sizes.
    const int shorter = round_even(side * 256.0 / 224.0);
    full_height =
        height <= width ? shorter : static_cast<int>(static_cast<int64_t>(shorter) * height / width);
    full_width = width <= height ? shorter : static_cast<int>(static_cast<int64_t>(shorter) * width / height);
    window.top = round_even((full_height - side) / 2.0);
    window.left = round_even((full_width - side) / 2.0);
  }
  const int64_t plane = int64_t{side} * side;
  for (int c = 0; c < stored_.channels; c++) {
    float* target = out + c * plane;
    scratch.resampler.resize(image + static_cast<int64_t>(c) * height * width, width, box, full_height,
                             full_width, window, target);
    const float mean = static_cast<float>(spec_.mean[c]), std = static_cast<float>(spec_.std[c]);
    for (int64_t i = 0; i < plane; i++) target[i] = (target[i] / 255.0f - mean) / std;
    if (flip)
      for (int y = 0; y < side; y++) std::reverse(target + y * side, target + (y + 1) * side);
  }
}

// Output (y, x) is padded pixel (y + top, x + left), x mirrored under flip; the stored image begins at (pad,
// pad).
void Transform::crop(const uint8_t* image, int top, int left, bool flip, Scratch& scratch, float* out) const {
  const int height = stored_.height, width = stored_.width, pad = spec_.pad;
  uint8_t* line = scratch.line.data();
  for (int c = 0; c < stored_.channels; c++) {
    const float* table = table_.data() + c * 256;
    for (int y = 0; y < height; y++, out += width) {
      int row = y + top - pad;
      if (row < 0 || row >= height) {
        if (!spec_.reflect) {
          std::fill(out, out + width, table[0]);
          continue;
        }
        row = row < 0 ? -row : 2 * (height - 1) - row;
      }
      const uint8_t* source = image + (static_cast<int64_t>(c) * height + row) * width;
      std::memcpy(line + pad, source, static_cast<size_t>(width));
      for (int x = 1; x <= pad; x++) {
        line[pad - x] = spec_.reflect ? source[x] : 0;
        line[pad + width - 1 + x] = spec_.reflect ? source[width - 1 - x] : 0;
      }
      const uint8_t* first = line + left;
      if (flip)
        for (int x = 0; x < width; x++) out[x] = table[first[width - 1 - x]];
      else
        for (int x = 0; x < width; x++) out[x] = table[first[x]];
    }
  }
}

}  // namespace rp

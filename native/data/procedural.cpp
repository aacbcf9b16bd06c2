// Arithmetic is + - * / sqrt and comparisons in float, so that an image has the same bytes on every machine.
// Image i has label i mod classes; all else about it comes from its own draws.
#include "data/procedural.h"

#include <algorithm>
#include <cmath>
#include <thread>

#include "core/philox.h"
#include "cpu/threads.h"

namespace rp {
namespace {

constexpr int kShapes = 10, kPatterns = 10;

float length(float x, float y) { return std::sqrt(x * x + y * y); }
float box(float x, float y, float half_width, float half_height) {
  return std::max(std::fabs(x) - half_width, std::fabs(y) - half_height);
}

// Signed distance (roughly; negative inside) to shape `kind` of radius 1 about the origin.
float shape_distance(int kind, float x, float y) {
  switch (kind) {
    case 0:  // disc
      return length(x, y) - 0.85f;
    case 1:  // bar
      return box(x, y, 1.0f, 0.33f);
    case 2:  // ring
      return std::fabs(length(x, y) - 0.74f) - 0.2f;
    case 3:  // cross
      return std::min(box(x, y, 1.0f, 0.28f), box(x, y, 0.28f, 1.0f));
    case 4:  // triangle: the three sides' normals are at 120 degrees
      return std::max({-y, 0.8660254f * x + 0.5f * y, -0.8660254f * x + 0.5f * y}) - 0.55f;
    case 5:  // square
      return box(x, y, 0.75f, 0.75f);
    case 6:  // frame
      return std::fabs(box(x, y, 0.66f, 0.66f)) - 0.18f;
    case 7: {  // four-pointed star: sqrt|x| + sqrt|y| = 1
      const float root = std::sqrt(std::fabs(x)) + std::sqrt(std::fabs(y));
      return 0.5f * (root * root / 1.15f - 1.0f);
    }
    case 8:  // half a disc
      return std::max(length(x, y - 0.4f) - 0.95f, y - 0.4f);
    default:  // crescent
      return std::max(length(x, y) - 0.95f, 0.72f - length(x - 0.5f, y));
  }
}

// Triangle wave of period 1 in [-1, 1].
float wave(float t) {
  const float rest = t - std::floor(t);
  return 4.0f * std::fabs(rest - 0.5f) - 1.0f;
}
float sharpen(float v) { return std::clamp(3.0f * v, -1.0f, 1.0f); }

// Value in [-1, 1] of pattern `kind` at (a, b), in periods.
float pattern_value(int kind, float a, float b) {
  switch (kind) {
    case 0:  // plain
      return 1.0f;
    case 1:  // stripes
      return sharpen(wave(a));
    case 2:  // checks
      return sharpen(2.0f * wave(a) * wave(b));
    case 3:  // dots
      return sharpen(wave(a) + wave(b) - 0.4f);
    case 4:  // rings
      return sharpen(wave(length(a, b)));
    case 5:  // lattice of lines
      return sharpen(std::max(wave(a), wave(b)) - 0.5f);
    case 6:  // zigzag
      return sharpen(wave(a + 0.4f * wave(b)));
    case 7:  // bricks
      return sharpen(
          0.6f - std::max(wave(b), wave(0.5f * a + (std::floor(b) - 2.0f * std::floor(0.5f * b)) * 0.5f)));
    case 8:  // broad and narrow stripes in turn
      return sharpen(wave(0.5f * a) + wave(a));
    default:  // a slope
      return std::clamp(0.45f * a, -1.0f, 1.0f);
  }
}

// A turned, scaled frame of coordinates: (x, y) pixels -> ((x, y) - origin) rotated, divided by `scale`.
struct Placement {
  float x, y, cosine, sine, scale;
  float u(float px, float py) const { return ((px - x) * cosine + (py - y) * sine) / scale; }
  float v(float px, float py) const { return ((py - y) * cosine - (px - x) * sine) / scale; }
};

float between(Draws& draws, float low, float high) { return low + (high - low) * draws.uniform_float(); }

// A uniformly random direction, without sine or cosine: a point of the disc, projected.
void direction(Draws& draws, float* x, float* y) {
  float square;
  do {
    *x = between(draws, -1.0f, 1.0f);
    *y = between(draws, -1.0f, 1.0f);
    square = *x * *x + *y * *y;
  } while (square > 1.0f || square < 0.01f);
  const float norm = std::sqrt(square);
  *x /= norm;
  *y /= norm;
}

Placement placement(Draws& draws, float x, float y, float scale) {
  Placement p{x, y, 0, 0, scale};
  direction(draws, &p.cosine, &p.sine);
  return p;
}

class ProceduralImages final : public ImageSet {
 public:
  explicit ProceduralImages(const ProceduralSpec& spec)
      : ImageSet({3, spec.side, spec.side}, spec.classes, spec.count), spec_(spec) {
    // The class, in mixed radix: up to 10 classes are 5 shapes x 2 patterns, up to 100 are 10 x 10, and above
    // that a second pattern stands behind the object.
    shapes_ = spec.classes <= 10 ? (spec.classes + 1) / 2 : kShapes;
  }

  int64_t resident_bytes() const override { return 0; }
  int32_t label(int64_t index) const override { return static_cast<int32_t>(index % classes()); }
  const uint8_t* image(int64_t index, uint8_t* scratch) const override;

 private:
  ProceduralSpec spec_;
  int shapes_;
};

const uint8_t* ProceduralImages::image(int64_t index, uint8_t* scratch) const {
  Draws draws(spec_.seed, Purpose::kSyntheticImages, spec_.test ? 1 : 0, static_cast<uint32_t>(index));
  const int label = this->label(index), side = spec_.side;
  const int shape = label % shapes_, pattern = label / shapes_ % kPatterns,
            behind = label / shapes_ / kPatterns;

  const float extent = static_cast<float>(side);
  const float radius = extent * between(draws, 0.26f, 0.38f), free = extent - 1.6f * radius;
  const float centre_x = 0.8f * radius + free * draws.uniform_float();
  const float centre_y = 0.8f * radius + free * draws.uniform_float();
  const Placement object = placement(draws, centre_x, centre_y, radius);
  const float period = radius * between(draws, 0.5f, 0.65f);
  const Placement surface = placement(draws, centre_x, centre_y, period);
  const float back_period = extent * between(draws, 0.14f, 0.2f);
  const Placement back = placement(draws, extent / 2, extent / 2, back_period);

  // Colours: background b, object b + contrast * pattern. Signs are random per channel, but not all channels
  // may be faint.
  float base[3], contrast[3], slope[3], faint[3];
  const float strength = between(draws, 0.3f, 0.5f);
  const int strong = static_cast<int>(draws.below(3));
  float slope_x, slope_y;
  direction(draws, &slope_x, &slope_y);
  for (int c = 0; c < 3; c++) {
    base[c] = between(draws, 0.25f, 0.75f);
    const float share = c == strong ? 1.0f : between(draws, 0.0f, 1.0f);
    contrast[c] = strength * share * (draws.below(2) ? 1.0f : -1.0f);
    slope[c] = between(draws, -0.15f, 0.15f);
    faint[c] = behind ? between(draws, 0.1f, 0.18f) * (draws.below(2) ? 1.0f : -1.0f) : 0.0f;
  }

  const int64_t plane = int64_t{side} * side;
  for (int y = 0; y < side; y++) {
    for (int x = 0; x < side; x++) {
      const float px = static_cast<float>(x) + 0.5f, py = static_cast<float>(y) + 0.5f;
      const float distance = shape_distance(shape, object.u(px, py), object.v(px, py)) * radius;
      const float cover = std::clamp(0.5f - distance, 0.0f, 1.0f);  // anti-aliased over one pixel
      const float inside =
          cover > 0 ? cover * pattern_value(pattern, surface.u(px, py), surface.v(px, py)) : 0.0f;
      const float outside =
          behind ? (1.0f - cover) * pattern_value(behind, back.u(px, py), back.v(px, py)) : 0.0f;
      const float lit = ((px / extent - 0.5f) * slope_x + (py / extent - 0.5f) * slope_y) * 2.0f;
      uint32_t noise = draws.next();
      for (int c = 0; c < 3; c++, noise >>= 8) {
        const float grain = (static_cast<float>(noise & 255) / 255.0f - 0.5f) * 0.12f;
        const float value = base[c] + contrast[c] * inside + faint[c] * outside + slope[c] * lit + grain;
        scratch[c * plane + int64_t{y} * side + x] =
            static_cast<uint8_t>(std::clamp(value, 0.0f, 1.0f) * 255.0f + 0.5f);
      }
    }
  }
  return scratch;
}

}  // namespace

std::unique_ptr<ImageSet> procedural_images(const ProceduralSpec& spec) {
  if (spec.classes < 2 || spec.classes > kShapes * kPatterns * 10)
    fail("[procedural images] expected 2 to 1000 classes, got %d.", spec.classes);
  if (spec.side < 16 || spec.side > 1024)
    fail("[procedural images] expected a side of 16 to 1024 pixels, got %d.", spec.side);
  const int64_t bytes = int64_t{3} * spec.side * spec.side;
  if (spec.count < 1 || spec.count > INT32_MAX || (!spec.lazy && spec.count > kMaxSetBytes / bytes))
    fail("[procedural images] expected a count that fits, got %lld.", static_cast<long long>(spec.count));

  auto source = std::make_unique<ProceduralImages>(spec);
  if (spec.lazy) return source;
  std::vector<uint8_t> pixels(static_cast<size_t>(spec.count * bytes));
  std::vector<int32_t> labels(static_cast<size_t>(spec.count));
  ThreadTeam team(0);
  team.parallel_range(spec.count, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; i++) {
      source->image(i, pixels.data() + i * bytes);
      labels[i] = source->label(i);
    }
  });
  return std::make_unique<ResidentImageSet>(source->shape(), spec.classes, std::move(pixels),
                                            std::move(labels));
}

}  // namespace rp

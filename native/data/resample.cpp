#include "data/resample.h"

#include <algorithm>
#include <cmath>

namespace rp {

// `in` inputs stretch over `full` outputs, of which `outputs` from `begin` on are wanted. Output o covers the
// inputs around its centre (o + 1/2) * in / full; input k counts by the triangle of half-width `support` at k
// + 1/2.
void Resampler::Axis::build(int in, int full, int begin, int outputs) {
  const double scale = static_cast<double>(in) / full, support = std::max(scale, 1.0);
  width = static_cast<int>(std::ceil(support)) * 2 + 1;
  first.resize(outputs);
  count.resize(outputs);
  weights.assign(static_cast<size_t>(outputs) * width, 0.0f);
  std::vector<double> taps(width);
  for (int i = 0; i < outputs; i++) {
    const double centre = (begin + i + 0.5) * scale;
    const int low = std::max(0, static_cast<int>(centre - support + 0.5));
    const int high = std::min(in, static_cast<int>(centre + support + 0.5));
    double total = 0;
    for (int k = low; k < high; k++) {
      taps[k - low] = std::max(0.0, 1 - std::abs((k + 0.5 - centre) / support));
      total += taps[k - low];
    }
    first[i] = low;
    count[i] = high - low;
    for (int k = low; k < high; k++)
      weights[static_cast<size_t>(i) * width + k - low] = static_cast<float>(taps[k - low] / total);
  }
}

void Resampler::resize(const uint8_t* plane, int stride, const Box& box, int full_height, int full_width,
                       const Box& window, float* out) {
  rows_.build(box.height, full_height, window.top, window.height);
  columns_.build(box.width, full_width, window.left, window.width);

  // Columns first, for the rows that the window reads.
  const int first_row = rows_.first.front(), end_row = rows_.first.back() + rows_.count.back();
  partial_.resize(static_cast<size_t>(end_row - first_row) * window.width);
  for (int y = first_row; y < end_row; y++) {
    const uint8_t* source = plane + static_cast<int64_t>(box.top + y) * stride + box.left;
    float* target = partial_.data() + static_cast<size_t>(y - first_row) * window.width;
    for (int x = 0; x < window.width; x++) {
      const float* weights = columns_.weights.data() + static_cast<size_t>(x) * columns_.width;
      const uint8_t* taps = source + columns_.first[x];
      float sum = 0;
      for (int k = 0; k < columns_.count[x]; k++) sum += weights[k] * taps[k];
      target[x] = sum;
    }
  }
  for (int y = 0; y < window.height; y++) {
    const float* weights = rows_.weights.data() + static_cast<size_t>(y) * rows_.width;
    float* target = out + static_cast<size_t>(y) * window.width;
    std::fill(target, target + window.width, 0.0f);
    for (int k = 0; k < rows_.count[y]; k++) {
      const float* source =
          partial_.data() + static_cast<size_t>(rows_.first[y] + k - first_row) * window.width;
      for (int x = 0; x < window.width; x++) target[x] += weights[k] * source[x];
    }
  }
}

}  // namespace rp

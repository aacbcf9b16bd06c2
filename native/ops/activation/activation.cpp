#include "ops/activation/activation.h"

#include <algorithm>
#include <cstring>

namespace rp {
namespace {

// Row h of channel c of one block; images past n stay zero.
template <class T>
void import_row(const T* images, int n, const Layout& l, int64_t b, int64_t c, int64_t h, float* row) {
  const int64_t image = int64_t{l.channels} * l.height * l.width;
  const int64_t first = b * kImagesPerBlock, count = std::min<int64_t>(kImagesPerBlock, n - first);
  const T* in = images + first * image + (c * l.height + h) * l.width;
  for (int64_t w = 0; w < l.width; w++) {
    float* out = row + w * kImagesPerBlock;
    for (int64_t i = 0; i < count; i++) out[i] = static_cast<float>(in[i * image + w]);
    for (int64_t i = count; i < kImagesPerBlock; i++) out[i] = 0;
  }
}

}  // namespace

void import_images(const void* images, int image_bytes, int n, const Layout& l, float* x, int64_t block_begin,
                   int64_t block_end) {
  for (int64_t b = block_begin; b < block_end; b++) {
    for (int64_t h = 0; h < l.height; h++) {
      for (int64_t c = 0; c < l.channels; c++) {
        float* row = x + l.at(b, c, h, 0);
        if (image_bytes == 8) {
          import_row(static_cast<const double*>(images), n, l, b, c, h, row);
        } else {
          import_row(static_cast<const float*>(images), n, l, b, c, h, row);
        }
      }
    }
  }
  zero_border(l, x, block_begin, block_end);
}

void export_images(const float* x, const Layout& l, int n, const double* scale, float* images,
                   int64_t block_begin, int64_t block_end) {
  const int64_t image = int64_t{l.channels} * l.height * l.width;
  for (int64_t b = block_begin; b < block_end; b++) {
    const int64_t first = b * kImagesPerBlock, count = std::min<int64_t>(kImagesPerBlock, n - first);
    for (int64_t c = 0; c < l.channels; c++) {
      const double by = scale ? scale[c] : 1;
      for (int64_t h = 0; h < l.height; h++) {
        for (int64_t w = 0; w < l.width; w++) {
          const float* in = x + l.at(b, c, h, w);
          float* out = images + first * image + (c * l.height + h) * l.width + w;
          for (int64_t i = 0; i < count; i++) out[i * image] = static_cast<float>(in[i] * by);
        }
      }
    }
  }
}

void flatten(const float* x, const Layout& xl, float* y, const Layout& yl, int64_t block_begin,
             int64_t block_end) {
  for (int64_t b = block_begin; b < block_end; b++) {
    int64_t k = 0;
    for (int64_t c = 0; c < xl.channels; c++) {
      for (int64_t h = 0; h < xl.height; h++) {
        for (int64_t w = 0; w < xl.width; w++, k++) {
          std::memcpy(y + yl.at(b, k, 0, 0), x + xl.at(b, c, h, w), kImagesPerBlock * sizeof(float));
        }
      }
    }
  }
}

void unflatten(const float* y, const Layout& yl, float* x, const Layout& xl, bool add, int64_t block_begin,
               int64_t block_end) {
  for (int64_t b = block_begin; b < block_end; b++) {
    int64_t k = 0;
    for (int64_t c = 0; c < xl.channels; c++) {
      for (int64_t h = 0; h < xl.height; h++) {
        for (int64_t w = 0; w < xl.width; w++, k++) {
          const float* in = y + yl.at(b, k, 0, 0);
          float* out = x + xl.at(b, c, h, w);
          for (int i = 0; i < kImagesPerBlock; i++) out[i] = add ? out[i] + in[i] : in[i];
        }
      }
    }
  }
  zero_border(xl, x, block_begin, block_end);
}

void zero_border(const Layout& l, float* x, int64_t block_begin, int64_t block_end) {
  if (l.border == 0) return;
  const int64_t width = kImagesPerBlock * int64_t{l.width}, used = l.channels * l.channel_stride;
  for (int64_t b = block_begin; b < block_end; b++) {
    if (b == 0) std::memset(x - l.margin, 0, l.margin * sizeof(float));
    for (int64_t h = 0; h < l.height; h++) {
      float* row = x + l.at(b, 0, h, 0);
      for (int64_t c = 0; c < l.channels; c++) {
        std::memset(row + c * l.channel_stride + width, 0, (l.channel_stride - width) * sizeof(float));
      }
      std::memset(row + used, 0, (l.row_stride - used) * sizeof(float));
    }
    std::memset(x + l.at(b, 0, l.height, 0), 0, l.border * l.row_stride * sizeof(float));
  }
}

}  // namespace rp

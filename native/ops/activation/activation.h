// Activations in and out of the CPU layout (core/layout.h): the only places where a layout is converted.
#pragma once
#include <cstdint>

#include "core/layout.h"

namespace rp {

// Image blocks [block_begin, block_end) of x from images (n, C, H, W) row-major, float or double
// (image_bytes 4 or 8); borders and padding images become zero.
void import_images(const void* images, int image_bytes, int n, const Layout& layout, float* x,
                   int64_t block_begin, int64_t block_end);

// images (n, C, H, W) = x · scale[c]; scale null: 1.
void export_images(const float* x, const Layout& layout, int n, const double* scale, float* images,
                   int64_t block_begin, int64_t block_end);

// y (C·H·W, 1, 1) = x (C, H, W) in NCHW order, as a linear layer reads it; and back (add: x += instead of =).
void flatten(const float* x, const Layout& x_layout, float* y, const Layout& y_layout, int64_t block_begin,
             int64_t block_end);
void unflatten(const float* y, const Layout& y_layout, float* x, const Layout& x_layout, bool add,
               int64_t block_begin, int64_t block_end);

// Zeroes the border of a tensor that a convolution wrote.
void zero_border(const Layout& layout, float* x, int64_t block_begin, int64_t block_end);

}  // namespace rp

// Rows of an activation (core/layout.h) inside vector kernels: the zero border that goes with each row, and
// the padding images of the last block. Elementwise kernels write whole rows, so every tensor they make has
// zero borders and zero padding images whatever its memory held before.
//
// Include in vector sources only (cpu/simd.h). Reads Layout's fields, never its inline functions: those are
// shared by all translation units and must not be compiled for an instruction set.
#pragma once
#include "core/layout.h"
#include "cpu/simd.h"

namespace rp {
namespace RP_ISA {

constexpr int kBlockVecs = kImagesPerBlock / kLanes;  // vectors of one position

RP_INLINE int64_t row_offset(const Layout& l, int64_t block, int64_t h) {
  return block * l.block_stride + h * l.row_stride;
}

// Where a piece of a row begins: positions [index, index + 1) · width of all blocks, counted row by row.
// Layouts of the same positions may cut them into rows of other widths, multiples of the narrowest.
RP_INLINE int64_t piece_offset(const Layout& l, int64_t index, int64_t width) {
  const int64_t pieces = l.width / width, row = index / pieces;
  return row_offset(l, row / l.height, row % l.height) + index % pieces * width * kImagesPerBlock;
}

RP_INLINE int64_t narrower(int64_t width, int64_t other) { return width < other ? width : other; }

RP_INLINE void clear(float* p, int64_t floats) {
  const Vec nothing = zero();
  for (int64_t i = 0; i < floats; i += kLanes) store(p + i, nothing);
}

RP_INLINE void put(float* p, Vec v, bool streams) {
  if (streams) {
    stream(p, v);
  } else {
    store(p, v);
  }
}

// The border columns after one channel's row.
RP_INLINE void clear_columns(float* row, const Layout& l, int64_t c) {
  if (l.border == 0) return;
  const int64_t width = kImagesPerBlock * int64_t{l.width};
  clear(row + c * l.channel_stride + width, l.channel_stride - width);
}

// The border beyond the channels of row h: left of the next row, the margin before block 0, the rows after
// the last.
RP_INLINE void clear_around_row(float* base, const Layout& l, int64_t block, int64_t h) {
  if (l.border == 0) return;
  float* row = base + row_offset(l, block, h);
  const int64_t columns = kImagesPerBlock * int64_t{l.border};
  clear(row + l.row_stride - columns, columns);
  if (block == 0 && h == 0) clear(base - l.margin, l.margin);
  if (h == l.height - 1) clear(row + l.row_stride, l.border * l.row_stride);
}

// Images of a block that exist in a batch of n.
RP_INLINE int images_in_block(const Layout& l, int n, int64_t block) {
  const int64_t left = n - block / l.parts * kImagesPerBlock;
  return left < kImagesPerBlock ? static_cast<int>(left) : kImagesPerBlock;
}

// Zeroes the padding images of one row.
RP_INLINE void clear_padding_images(float* base, const Layout& l, int64_t block, int64_t h, int n) {
  const int images = images_in_block(l, n, block);
  if (images == kImagesPerBlock) return;
  const uint32_t bits = (1u << images) - 1;
  for (int64_t c = 0; c < l.channels; c++) {
    float* p = base + row_offset(l, block, h) + c * l.channel_stride;
    for (int64_t w = 0; w < l.width; w++) {
      for (int i = 0; i < kBlockVecs; i++, p += kLanes) {
        const uint32_t lanes = (bits >> (i * kLanes)) & ((1u << kLanes) - 1);
        store(p, select(mask_of(lanes), load(p), zero()));
      }
    }
  }
}

}  // namespace RP_ISA
}  // namespace rp

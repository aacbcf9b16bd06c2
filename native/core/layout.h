// Layout of a CPU activation: [N/16][H][C][W + border][16 n], sixteen images innermost (PERFORMANCE, design
// 1). One weight then meets sixteen images per vector with no gather and no im2col.
//
//  - `border` zero columns stand after each row of a channel and serve as the left border of the next one;
//    `border` zero rows stand between image blocks; a margin stands before the first and after the last.
//    Address (h, w) with -border <= h < H + border, -border <= w < W + border is always readable, and zero
//    outside the image.
//  - H is outermost and C next, so that a spatial tile of all channels is a few contiguous streams.
//  - The row stride is an odd number of 64-byte lines, and where that is cheap far from a multiple of L1's 64
//    sets: the rows of a tile would share a few of them. So would the channels of a tile a few columns wide,
//    which is why one more column stands between them where their stride were a multiple of four lines.
//  - Images n .. 16 * blocks(n) - 1 of the last block are padding: finite values forward, zero gradients
//  backward.
//  - The positions of an image, row by row, may be cut into other rows, and those into parts that count as
//  blocks: to what works position by position they are as good as rows of the image, and a few of all
//  channels fit the caches (engine/cpu/layouts.h).
//
// All strides and offsets are in floats.
#pragma once
#include <cstddef>
#include <cstdint>

namespace rp {

constexpr int kImagesPerBlock = 16;

inline int image_blocks(int n) { return (n + kImagesPerBlock - 1) / kImagesPerBlock; }

struct Layout {
  int channels = 0, height = 0, width = 0;  // of a part
  int border = 0;
  int parts = 1;               // of an image block, each a block of its own; several: border is 0
  int64_t channel_stride = 0;  // 16 * channel_lines(width + border); zeros behind the width if border > 0
  int64_t row_stride = 0;      // 16 * row_lines(channels * channel_lines(width + border))
  int64_t block_stride = 0;    // row_stride * (height + border)
  int64_t margin = 0;          // floats before block 0; a multiple of 16

  // Floats to allocate for n images, or for so many blocks; the tensor's base pointer is allocation + margin.
  int64_t floats(int n) const { return floats_of_blocks(int64_t{image_blocks(n)} * parts); }
  int64_t floats_of_blocks(int64_t blocks) const { return 2 * margin + block_stride * blocks; }
  // Offset of block b, row h, channel c, column w from the base pointer.
  int64_t at(int64_t b, int64_t c, int64_t h, int64_t w) const {
    return b * block_stride + h * row_stride + c * channel_stride + w * kImagesPerBlock;
  }
  // Of an image, and the offset of one of them, counted row by row, in image block b.
  int64_t positions() const { return int64_t{parts} * height * width; }
  int64_t at_position(int64_t b, int64_t c, int64_t position) const {
    const int64_t row = b * parts * height + position / width;
    return at(row / height, c, row % height, position % width);
  }
};

// Whether blocks and rows of both hold the same positions.
inline bool same_rows(const Layout& a, const Layout& b) {
  return a.parts == b.parts && a.height == b.height && a.width == b.width;
}

// Lines from one row to the next, for rows that use so many.
inline int64_t row_lines(int64_t used) {
  constexpr int64_t kSets = 64, kApart = 16;  // of L1; that rows should be, either way
  constexpr int64_t kCheap = 32;              // at most this part of a row is spent on it
  const int64_t odd = used | 1, over = odd % kSets;
  const int64_t apart = over < kApart           ? odd + kApart - over + 1
                        : over > kSets - kApart ? odd + kSets + kApart - over + 1
                                                : odd;
  return (apart - odd) * kCheap <= used ? apart : odd;
}

// Lines from one channel to the next, for channels that use so many: at most an eighth is spent on it.
inline int64_t channel_lines(int64_t used) { return used % 4 == 0 && used >= 8 ? used + 1 : used; }

inline Layout make_layout(int channels, int height, int width, int border) {
  Layout l;
  l.channels = channels;
  l.height = height;
  l.width = width;
  l.border = border;
  const int64_t lines = channel_lines(int64_t{width} + border);
  l.channel_stride = kImagesPerBlock * lines;
  l.row_stride = kImagesPerBlock * row_lines(channels * lines);
  l.block_stride = l.row_stride * (height + border);
  l.margin = border == 0 ? 0 : border * (l.row_stride + kImagesPerBlock);
  return l;
}

// A map without border whose positions are cut into so many parts.
inline Layout make_parted_layout(int channels, int parts, int height, int width) {
  Layout l = make_layout(channels, height, width, 0);
  l.parts = parts;
  return l;
}

// Of a buffer that holds one block at a time: all lie at the same place.
inline Layout one_block(Layout l) {
  l.block_stride = 0;
  return l;
}

}  // namespace rp

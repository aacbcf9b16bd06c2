#include "ops/conv_tiling.h"

#include <algorithm>
#include <cctype>
#include <cstdio>

#include "core/error.h"

namespace rp {
namespace {

// Largest available size <= limit.
template <class Has>
int largest_size(int limit, const Has& has) {
  for (int size = std::min(limit, kLargestSide); size > 1; size--) {
    if (has(size)) return size;
  }
  return 1;
}

}  // namespace

std::string tile_text(const TileChoice& c) {
  return std::string(c.across_blocks ? "b" : "") + std::to_string(c.height) + "x" + std::to_string(c.width) +
         "/" + std::to_string(c.channels) + (c.stream ? "n" : "") + (c.prefetch ? "p" : "") +
         (c.to_l1 ? "l" : "") + (c.by_rows ? "r" : "") + (c.pairs ? "t" : "") + (c.dots ? "w" : "");
}

bool parse_tile(const std::string& text, TileChoice* choice) {
  TileChoice c;
  const char* at = text.c_str();
  if (*at == 'b') {
    c.across_blocks = true;
    at++;
  }
  int length = 0;
  if (std::sscanf(at, "%4dx%4d/%7d%n", &c.height, &c.width, &c.channels, &length) != 3) return false;
  at += length;
  if (*at == 'n') {
    c.stream = true;
    at++;
  }
  if (*at == 'p') {
    c.prefetch = true;
    at++;
  }
  if (*at == 'l' && c.prefetch) {
    c.to_l1 = true;
    at++;
  }
  if (*at == 'r' && !c.across_blocks) {
    c.by_rows = true;
    at++;
  }
  if (*at == 't') {
    c.pairs = true;
    at++;
  }
  if (*at == 'w' && !c.pairs) {
    c.dots = true;
    at++;
  }
  if (*at != '\0' || c.height < 1 || c.width < 1 || c.channels < 1) return false;
  *choice = c;
  return true;
}

Tiling::Tiling(int rows, int cols, const TileChoice& choice, const HasTile& has)
    : choice_(choice), rows_(rows) {
  if (!has(choice.height, choice.width)) {
    fail("[conv] choice \"%s\": this machine's kernels have no %dx%d tile.", tile_text(choice).c_str(),
         choice.height, choice.width);
  }
  const int target = choice.height * choice.width;
  for (int col = 0; col < cols;) {
    const int width = largest_size(std::min(choice.width, cols - col), [&](int w) { return has(1, w); });
    Strips strips = {tiles_, col, width, (cols - col) / width, 0, static_cast<int>(runs_.size()), 0};
    for (int row = 0; row < rows;) {
      const int height = choice.across_blocks ? choice.height
                                              : largest_size(std::min(rows - row, target / width),
                                                             [&](int h) { return has(h, width); });
      const int step = choice.across_blocks ? 1 : height;
      if (strips.runs == 0 || runs_.back().height != height) {
        runs_.push_back({strips.tiles, row, height});
        strips.runs++;
      }
      strips.tiles++;
      largest_ = std::max(largest_, height * width);
      row += step;
    }
    strips_.push_back(strips);
    tiles_ += int64_t{strips.count} * strips.tiles;
    col += strips.count * width;
  }
  if (choice.across_blocks) {
    rest_.assign(choice.height, 0);
    for (int n = 1; n < choice.height; n++) {
      rest_[n] = largest_size(n, [&](int h) { return has(h, choice.width); });
    }
  }
}

int64_t Tiling::groups(int blocks) const {
  if (!choice_.across_blocks) return blocks;
  int64_t groups = blocks / choice_.height;
  for (int rest = blocks % choice_.height; rest > 0; rest -= rest_[rest]) groups++;
  return groups;
}

TileItem Tiling::item(int64_t index, int blocks) const {
  int group = static_cast<int>(index / tiles_);
  const int64_t tile = index % tiles_;
  size_t i = strips_.size() - 1;
  while (tile < strips_[i].first) i--;
  const Strips& strips = strips_[i];
  const int in_strips = static_cast<int>(tile - strips.first);
  const int strip = choice_.by_rows ? in_strips % strips.count : in_strips / strips.tiles;
  const int in_strip = choice_.by_rows ? in_strips / strips.count : in_strips % strips.tiles;
  const Run* run = &runs_[strips.first_run + strips.runs - 1];
  while (in_strip < run->first) run--;
  const int rows = choice_.across_blocks ? 1 : run->height;
  TileItem item = {0, run->row + (in_strip - run->first) * rows, strips.col + strip * strips.width,
                   run->height, strips.width};
  if (choice_.by_rows) {
    item.in_rows = strip;
    item.of_rows = strips.count;
  }
  if (!choice_.across_blocks) {
    item.block = group;
    return item;
  }
  const int full = blocks / choice_.height;
  if (group < full) {
    item.block = group * choice_.height;
    return item;
  }
  item.block = full * choice_.height;
  int rest = blocks % choice_.height;
  for (; group > full; group--) {
    item.block += rest_[rest];
    rest -= rest_[rest];
  }
  item.height = rest_[rest];
  return item;
}

}  // namespace rp

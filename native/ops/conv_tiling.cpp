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
         "/" + std::to_string(c.channels) + (c.stream ? "n" : "") + (c.prefetch ? "p" : "");
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
  if (*at != '\0' || c.height < 1 || c.width < 1 || c.channels < 1) return false;
  *choice = c;
  return true;
}

Tiling::Tiling(int rows, int cols, const TileChoice& choice, const HasTile& has) : choice_(choice) {
  if (!has(choice.height, choice.width)) {
    fail("[conv] choice \"%s\": this machine's kernels have no %dx%d tile.", tile_text(choice).c_str(),
         choice.height, choice.width);
  }
  const int target = choice.height * choice.width;
  for (int col = 0; col < cols;) {
    const int width = largest_size(std::min(choice.width, cols - col), [&](int w) { return has(1, w); });
    if (choice.across_blocks) {
      for (int row = 0; row < rows; row++) tiles_.push_back({0, row, col, choice.height, width});
    } else {
      for (int row = 0; row < rows;) {
        const int height =
            largest_size(std::min(rows - row, target / width), [&](int h) { return has(h, width); });
        tiles_.push_back({0, row, col, height, width});
        row += height;
      }
    }
    col += width;
  }
  for (const TileItem& tile : tiles_) largest_ = std::max(largest_, tile.height * tile.width);
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
  const int64_t count = static_cast<int64_t>(tiles_.size());
  TileItem item = tiles_[index % count];
  int group = static_cast<int>(index / count);
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

// How a pass is cut into register tiles. A tile is `height` × `width` positions of sixteen images each; its
// columns are neighbouring positions, its rows either neighbouring image rows or (small maps, linear layers)
// the same position of neighbouring image blocks. Tiles cover every position exactly once.
#pragma once
#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace rp {

constexpr int kLargestSide = 64;  // height or width of a tile, at most

struct TileChoice {
  bool across_blocks = false;  // rows of a tile are image blocks
  int height = 1, width = 1;
  int channels = 1;       // input channels a block
  bool stream = false;    // write with non-temporal stores
  bool prefetch = false;  // fetch what follows into L2 (conv_fetch.h)
  bool to_l1 = false;     // fetch it into L1 instead
  bool by_rows = false;   // tiles follow each other along rows, not down columns
  bool pairs = false;     // of sparse lists: two outputs are walked together
  bool dots = false;      // of sparse dgrads: wgrad goes with it, of what is loaded of dy
};

// "2x8/24", "b8x1/64" across blocks, then n (stream), p or pl (prefetch, to L1), r (by rows, never across
// blocks), t (two outputs together) and w (wgrad with it).
std::string tile_text(const TileChoice&);
bool parse_tile(const std::string& text, TileChoice*);

struct TileItem {
  int block, row, col, height, width;
  int in_rows = 0, of_rows = 1;  // by rows: its place among so many tiles of the same rows; else alone
};

// Whether a kernel of this height and width exists. If one of (h, w) does, so does one of (h, w') for every
// smaller width w' that exists.
using HasTile = std::function<bool(int height, int width)>;

class Tiling {
 public:
  Tiling() = default;
  Tiling(int rows, int cols, const TileChoice&, const HasTile&);

  // Over so many image blocks. Items of one block (or group of blocks) are neighbours.
  int64_t items(int blocks) const { return groups(blocks) * tiles(); }
  TileItem item(int64_t index, int blocks) const;
  int64_t groups(int blocks) const;         // of blocks, by the choice alone
  int64_t tiles() const { return tiles_; }  // of one group
  // Where tiles follow rows: so many of the same rows, and so many such rows of tiles; 0: they do not.
  int tiles_in_row() const { return has_bands() ? strips_.front().count : 0; }
  int rows_of_tiles() const { return has_bands() ? strips_.front().tiles : 0; }
  // Bands of so many rows (the last may have fewer), whose tiles follow each other, and the first tile of one
  // or beyond the last. All rows are one band where tiles do not follow rows.
  int band_rows() const { return has_bands() ? runs_.front().height : rows_; }
  int64_t band_begin(int64_t band) const {
    return band * band_rows() < rows_ ? band * strips_.front().count : tiles_;
  }
  int largest() const { return largest_; }  // positions of the largest tile
  int64_t bytes() const {
    return static_cast<int64_t>(strips_.capacity() * sizeof(Strips) + runs_.capacity() * sizeof(Run));
  }

 private:
  // Neighbouring strips of columns, equally wide and so cut into the same tiles; and tiles of one height
  // within a strip. A layer keeps these few instead of its hundreds of tiles.
  struct Strips {
    int64_t first;                                  // tile
    int col, width, count, tiles, first_run, runs;  // tiles: of each of them
  };
  struct Run {
    int first, row, height;
  };

  bool has_bands() const { return choice_.by_rows && strips_.size() == 1; }

  TileChoice choice_;
  int rows_ = 0;
  std::vector<Strips> strips_;
  std::vector<Run> runs_;
  int64_t tiles_ = 0;
  std::vector<int> rest_;  // rest_[n]: blocks of the first group that n < choice_.height blocks are cut into
  int largest_ = 0;
};

}  // namespace rp

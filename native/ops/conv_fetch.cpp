#include "ops/conv_fetch.h"

#include <algorithm>

namespace rp {

namespace {

// Share `index` of `count` of so many runs.
PrefetchLines share_of_runs(const float* first, int64_t runs, int64_t per_run, int64_t run_stride,
                            int64_t index, int64_t count) {
  PrefetchLines lines;
  lines.base = reinterpret_cast<const char*>(first);
  lines.per_run = static_cast<int>(per_run);
  lines.run_stride = run_stride * 4;
  lines.first = static_cast<int>(runs * per_run * index / count);
  lines.count = static_cast<int>(runs * per_run * (index + 1) / count) - lines.first;
  return lines;
}

}  // namespace

PrefetchLines lines_of_rows(const float* tensor, const Layout& layout, const RowRange& rows, int channel,
                            int channels, int64_t index, int64_t count) {
  if (rows.begin >= rows.end) return {};
  return share_of_runs(tensor + layout.at(rows.block, channel, rows.begin, 0), rows.end - rows.begin,
                       channels * layout.channel_stride / kImagesPerBlock, layout.row_stride, index, count);
}

PrefetchLines lines_of_source(const RowWork::Source& source, const Layout& of, const RowRange& rows,
                              int64_t index, int64_t count) {
  const Layout& l = source.layout;
  if (rows.begin >= rows.end) return {};
  const int64_t first = (int64_t{rows.block} * of.height + rows.begin) * of.width;
  const int64_t positions = int64_t{rows.end - rows.begin} * of.width;
  const int64_t row = first / l.width, column = first % l.width;
  const float* at = source.x + l.at(row / l.height, 0, row % l.height, column);
  // Pieces of a row stand apart, a channel each.
  if (column > 0 || positions < l.width)
    return share_of_runs(at, l.channels, std::min(positions, l.width - column), l.channel_stride, index,
                         count);
  return share_of_runs(at, positions / l.width, l.channels * l.channel_stride / kImagesPerBlock, l.row_stride,
                       index, count);
}

TileFetch::TileFetch(const ConvPass& pass, const TileChoice& choice, TileLines lines)
    : layout_(pass.x), to_l1_(choice.to_l1), step_(pass.x_step) {
  const std::vector<int> rows = tap_rows(pass), cols = tap_cols(pass);
  if (rows.empty()) return;
  reach_ = {*std::min_element(rows.begin(), rows.end()), *std::max_element(rows.begin(), rows.end())};
  if (choice.by_rows) return;
  const int right = *std::max_element(cols.begin(), cols.end());
  // Not read before: of each position's lines, those of taps in its last rows and columns. What taps read
  // between two positions is new as well.
  const bool whole = lines == TileLines::all;
  const int first_row = whole ? reach_.first : reach_.last - std::min<int>(step_, rows.size()) + 1;
  const int first_col =
      whole ? *std::min_element(cols.begin(), cols.end()) : right - std::min<int>(step_, cols.size()) + 1;
  const int64_t row = choice.across_blocks ? layout_.block_stride : layout_.row_stride * step_;
  for (int h = 0; h < choice.height; h++) {
    for (int i = first_row; i <= reach_.last; i++) {
      for (int w = 0; w < choice.width; w++) {
        for (int j = first_col; j <= right; j++) {
          const int64_t col = int64_t{w} * step_ + j;
          offsets_.push_back(
              static_cast<int32_t>(4 * (h * row + i * layout_.row_stride + col * kImagesPerBlock)));
        }
      }
    }
  }
  std::sort(offsets_.begin(), offsets_.end());
  offsets_.erase(std::unique(offsets_.begin(), offsets_.end()), offsets_.end());
  offsets_.shrink_to_fit();
}

PrefetchLines TileFetch::tile(const float* tensor, const TileItem& next, int channel, int channels) const {
  PrefetchLines lines;
  lines.base = reinterpret_cast<const char*>(
      tensor + layout_.at(next.block, channel, int64_t{next.row} * step_, int64_t{next.col} * step_));
  lines.offsets = offsets_.data();
  lines.per_run = static_cast<int>(offsets_.size());
  lines.run_stride = layout_.channel_stride * 4;
  lines.count = lines.per_run * channels;
  lines.to_l1 = to_l1_;
  return lines;
}

RowRange TileFetch::rows(const TileItem* now, const TileItem& next, const RowReach& reach) const {
  if (reach.none()) return {next.block, 0, 0};
  int begin = next.row * step_ + reach.first;
  const int end = (next.row + next.height - 1) * step_ + reach.last + 1;
  if (now != nullptr && now->block == next.block && now->row < next.row)
    begin = std::max(begin, (now->row + now->height - 1) * step_ + reach.last + 1);
  return {next.block, std::max(begin, 0), std::min(end, layout_.height)};
}

}  // namespace rp

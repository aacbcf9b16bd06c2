#include "ops/conv2d/dense_lists.h"

#include "ops/conv_model.h"

namespace rp {

DenseList::DenseList(const GatherPhase& phase, const TileChoice& choice, int blocks, int64_t first_weight)
    : pass_(phase.pass),
      first_weight_(first_weight),
      channels_(choice.channels),
      across_blocks_(choice.across_blocks) {
  drs_ = tap_rows(pass_);
  dss_ = tap_cols(pass_);
  // Tiles of one image block; those of a smaller batch have the same columns and rows.
  const int sample = choice.across_blocks ? blocks : 1;
  for (int64_t i = 0; i < phase.tiling.items(sample); i++) {
    const TileItem tile = phase.tiling.item(i, sample);
    const Reach tile_reach = reach(tile.row, tile.col, tile.height, tile.width);
    if (find(tile_reach) == nullptr) add(tile_reach, tile.col, tile.width);
  }
}

DenseList::Reach DenseList::reach(int row, int col, int height, int width) const {
  Reach r{};
  const int step = pass_.x_step;
  reached_taps(drs_, row, across_blocks_ ? 1 : height, step, pass_.x.height, &r.row_begin, &r.row_end);
  reached_taps(dss_, col, width, step, pass_.x.width, &r.col_begin, &r.col_end);
  if (width > 1) {
    for (int s = r.col_begin; s < r.col_end; s++) {
      const int first = col * step + dss_[s], last = (col + width - 1) * step + dss_[s];
      if (first < 0 || first >= pass_.x.width) {
        r.first_outside++;
      } else if (last < 0 || last >= pass_.x.width) {
        r.last_outside++;
      }
    }
  }
  return r;
}

const DenseList::Entries* DenseList::find(const Reach& reach) const {
  for (const Entries& entries : lists_) {
    if (entries.reach == reach) return &entries;
  }
  return nullptr;
}

void DenseList::add(const Reach& reach, int col, int width) {
  Entries entries;
  entries.reach = reach;
  const int step = pass_.x_step, cols = static_cast<int>(dss_.size());
  const auto kind = [&](int ds) {
    const int first = col * step + ds, last = (col + width - 1) * step + ds;
    if (width == 1) return 0;
    if (first < 0 || first >= pass_.x.width) return 1;
    return last < 0 || last >= pass_.x.width ? 2 : 0;
  };
  for (int c = 0; c < channels_; c++) {
    for (int r = reach.row_begin; r < reach.row_end; r++) {
      for (int s = reach.col_begin; s < reach.col_end; s++) {
        std::vector<int32_t>& pairs = entries.pairs[kind(dss_[s])];
        pairs.push_back(static_cast<int32_t>(4 * (c * pass_.x.channel_stride + drs_[r] * pass_.x.row_stride +
                                                  int64_t{dss_[s]} * kImagesPerBlock)));
        pairs.push_back(c * taps() + r * cols + s);
      }
    }
  }
  for (int k = 0; k < 3; k++)
    entries.per_channel[k] = static_cast<int>(entries.pairs[k].size() / 2) / channels_;
  lists_.push_back(std::move(entries));
}

void DenseList::terms(const GatherPlace& place, DenseTerms out[3]) const {
  const Entries* entries = find(reach(place.row, place.col, place.height, place.width));
  for (int k = 0; k < 3; k++) {
    out[k] = {entries->pairs[k].data(), entries->per_channel[k] * channels_of(place.channel_block)};
  }
}

int64_t DenseList::bytes() const {
  int64_t bytes = 0;
  for (const Entries& entries : lists_) {
    for (const std::vector<int32_t>& pairs : entries.pairs)
      bytes += 4 * static_cast<int64_t>(pairs.capacity());
  }
  return bytes;
}

}  // namespace rp

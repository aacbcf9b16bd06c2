#include "ops/conv2d/dense_taps.h"

#include "ops/conv_model.h"

namespace rp {

DenseTaps::DenseTaps(const GatherPhase& phase, const TileChoice& choice, int blocks, int64_t first_weight)
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
  for (const PassTap& tap : pass_.taps) {
    offsets_.push_back(
        static_cast<int32_t>(4 * (tap.dr * pass_.x.row_stride + int64_t{tap.ds} * kImagesPerBlock)));
  }
}

DenseTaps::Reach DenseTaps::reach(int row, int col, int height, int width) const {
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

const DenseTaps::Runs* DenseTaps::find(const Reach& reach) const {
  for (const Runs& runs : runs_) {
    if (runs.reach == reach) return &runs;
  }
  return nullptr;
}

void DenseTaps::add(const Reach& reach, int col, int width) {
  Runs runs;
  runs.reach = reach;
  const int cols = static_cast<int>(dss_.size());
  const auto columns = [&](int ds) {
    const int first = col * pass_.x_step + ds, last = first + (width - 1) * pass_.x_step;
    if (width == 1) return DenseColumns::all;
    if (first < 0 || first >= pass_.x.width) return DenseColumns::not_first;
    return last < 0 || last >= pass_.x.width ? DenseColumns::not_last : DenseColumns::all;
  };
  for (int r = reach.row_begin; r < reach.row_end; r++) {
    for (int s = reach.col_begin; s < reach.col_end; s++) {
      const int tap = r * cols + s;
      const DenseColumns met = columns(dss_[s]);
      TapRun* before = runs.runs.empty() ? nullptr : &runs.runs.back();
      if (before && before->first_tap + before->taps == tap && before->columns == met) {
        before->taps++;
      } else {
        runs.runs.push_back({tap, 1, met});
      }
    }
  }
  runs_.push_back(std::move(runs));
}

void DenseTaps::fill(const GatherPlace& place, DenseGatherArgs* args) const {
  const Runs* runs = find(reach(place.row, place.col, place.height, place.width));
  args->x_channel = 4 * pass_.x.channel_stride;
  args->runs = runs->runs.data();
  args->run_count = static_cast<int>(runs->runs.size());
  args->channels = channels_of(place.channel_block);
  args->k_count = k_count(place.channel_block);
  args->offsets = offsets_.data();
}

int64_t DenseTaps::bytes() const {
  int64_t bytes = 4 * static_cast<int64_t>(offsets_.capacity());
  for (const Runs& runs : runs_) bytes += static_cast<int64_t>(runs.runs.capacity() * sizeof(TapRun));
  return bytes;
}

}  // namespace rp

#include "ops/sparse_conv2d/sparse_lists.h"

#include <algorithm>
#include <utility>

#include "ops/mask_bits.h"
#include "ops/sparse_conv2d/sparse_conv2d.h"

namespace rp {
namespace {

constexpr int kMostRows = 32;  // beyond, a border row is little of all work

// visit(output, input, tap) for every kept weight in packed order.
template <class Visit>
void for_each_kept(const ConvShape& s, const MaskView& mask, const Visit& visit) {
  const int64_t taps = int64_t{s.kernel_h} * s.kernel_w, row = taps * s.in_channels;
  int64_t o = 0, row_begin = 0, c = 0, channel_begin = 0;
  for_each_bit(mask.bits, 0, s.numel(), [&](int64_t bit) {
    while (bit >= row_begin + row) {
      o++;
      channel_begin = row_begin += row;
      c = 0;
    }
    while (bit >= channel_begin + taps) {
      c++;
      channel_begin += taps;
    }
    visit(static_cast<int>(o), static_cast<int>(c), static_cast<int>(bit - channel_begin));
  });
}

int kind_of(const SparseList& list, const PassTap& tap) { return list.kinds == 3 ? tap.dr + 1 : 0; }

bool keeps(const MaskView& mask, int64_t element) { return mask.bits[element >> 3] >> (element & 7) & 1; }

// Counts, then places: nonzeros in packed order of the pass's outputs. shared: the pair's other output keeps
// this one too.
class ListBuilder {
 public:
  ListBuilder(const ConvPass& pass, int channels, int together) : pass_(pass) {
    list_.channels = channels;
    list_.kinds = has_row_kinds(pass) ? 3 : 1;
    list_.together = together;
    list_.blocks = (pass.inputs() + channels - 1) / channels;
    list_.outputs = pass.outputs();
    list_.rows = together == 1 ? list_.outputs : (list_.outputs + 1) / 2 * 3;
    counts_.assign(static_cast<size_t>(list_.blocks) * list_.rows * list_.kinds, 0);
  }

  void count(int output, int input, const PassTap& tap, bool shared) {
    if (!shared || output % 2 == 0) counts_[slot(output, input, tap, shared)]++;
  }

  void counted() {
    if (list_.kinds == 3) drop_wide_kinds();
    const int kinds = list_.kinds;
    list_.ends.reserve(static_cast<size_t>(list_.blocks) * (list_.rows + 1));
    if (kinds == 3) list_.splits.reserve(static_cast<size_t>(list_.blocks) * list_.rows * 2);
    int32_t total = 0;
    int32_t* counts = counts_.data();
    for (int b = 0; b < list_.blocks; b++) {
      for (int r = 0; r < list_.rows; r++) {
        list_.ends.push_back(total);
        const int32_t begin = total;
        for (int k = 0; k < kinds; k++, counts++) {
          if (k > 0) list_.splits.push_back(static_cast<uint8_t>(total - begin));
          const int32_t count = *counts;
          *counts = total;  // from now on, where the next one goes
          total += count;
        }
      }
      list_.ends.push_back(total);
    }
    list_.list.assign(total + kListAhead, 0);
    if (list_.together == 2) {
      seconds_ = counts_;
      count_pair_weights();
    }
    if (list_.together == 1 && kinds == 1) return;
    packed_.reserve(static_cast<size_t>(list_.blocks) * list_.outputs);
    for (int b = 0; b < list_.blocks; b++) {
      for (int o = 0; o < list_.outputs; o++) packed_.push_back(list_.ends_of(b)[list_.row_of(o)]);
    }
  }

  // Gives the place of the nonzero's weight.
  int32_t place(int output, int input, const PassTap& tap, bool shared) {
    const bool second = shared && output % 2 != 0;
    const int32_t at = (second ? seconds_ : counts_)[slot(output, input, tap, shared)]++;
    // + : the low bits may already hold another nonzero's place.
    if (!second) list_.list[at] += byte_offset(input, tap);
    const int block = input / list_.channels;
    if (!packed_.empty()) {
      int32_t code = kind_of(list_, tap);
      if (list_.together == 2) code = (code + (shared ? 0 : 4)) << (output % 2 * 3);
      list_.list[packed_[int64_t{block} * list_.outputs + output]++] += code;
    }
    if (list_.together == 1) return at;
    const int32_t* of_row = list_.ends_of(block) + list_.row_of(output);
    const int32_t weights = list_.weights_of(block, output - output % 2), nth = at - of_row[0];
    return shared ? weights + 2 * nth + output % 2 : weights + nth + of_row[1] - of_row[0];
  }

  SparseList take() { return std::move(list_); }
  SparseList& list() { return list_; }

 private:
  // Splits are bytes: where a row has more in one block, there are no kinds. Such blocks are nearly dense.
  void drop_wide_kinds() {
    std::vector<int32_t> totals;
    totals.reserve(counts_.size() / 3);
    int32_t most = 0;
    for (size_t i = 0; i < counts_.size(); i += 3) {
      totals.push_back(counts_[i] + counts_[i + 1] + counts_[i + 2]);
      most = std::max(most, totals.back());
    }
    if (most <= UINT8_MAX) return;
    list_.kinds = 1;
    counts_ = std::move(totals);
  }

  void count_pair_weights() {
    const int pairs = list_.rows / 3;
    list_.pair_weights.reserve(static_cast<size_t>(list_.blocks) * (pairs + 1));
    int32_t total = 0;
    for (int b = 0; b < list_.blocks; b++) {
      const int32_t* of_row = list_.ends_of(b);
      for (int p = 0; p < pairs; p++, of_row += 3) {
        list_.pair_weights.push_back(total);
        total += of_row[3] - of_row[0] + of_row[1] - of_row[0];
      }
      list_.pair_weights.push_back(total);
    }
  }

  size_t slot(int output, int input, const PassTap& tap, bool shared) const {
    const int row = list_.row_of(output) + (list_.together == 1 || shared ? 0 : 1 + output % 2);
    return (static_cast<size_t>(input / list_.channels) * list_.rows + row) * list_.kinds +
           kind_of(list_, tap);
  }
  int32_t byte_offset(int input, const PassTap& tap) const {
    return static_cast<int32_t>(4 *
                                (int64_t{input % list_.channels} * pass_.x.channel_stride +
                                 int64_t{tap.dr} * pass_.x.row_stride + int64_t{tap.ds} * kImagesPerBlock));
  }

  const ConvPass& pass_;
  SparseList list_;
  std::vector<int32_t> counts_, seconds_;  // seconds_: of pairs' second outputs
  std::vector<int32_t> packed_;            // next in packed order, per block and output
};

}  // namespace

bool has_row_kinds(const ConvPass& pass) {
  if (pass.x_step != 1 || pass.y_step != 1 || pass.rows > kMostRows || pass.taps.size() != 9) return false;
  for (const PassTap& tap : pass.taps) {
    if (tap.dr < -1 || tap.dr > 1 || tap.ds < -1 || tap.ds > 1) return false;
  }
  return true;
}

SparseList forward_list(const ConvShape& s, const MaskView& mask, const ConvPass& pass, int channels,
                        int together, std::vector<int32_t>* row_starts) {
  ListBuilder builder(pass, channels, together);
  row_starts->assign(s.out_channels + 1, 0);
  const int64_t taps = int64_t{s.kernel_h} * s.kernel_w;
  const auto shared = [&](int o, int c, int t) {
    const int other = o ^ 1;
    return together == 2 && other < s.out_channels &&
           keeps(mask, (int64_t{other} * s.in_channels + c) * taps + t);
  };
  for_each_kept(s, mask, [&](int o, int c, int t) {
    builder.count(o, c, pass.taps[t], shared(o, c, t));
    (*row_starts)[o + 1]++;
  });
  for (int o = 0; o < s.out_channels; o++) (*row_starts)[o + 1] += (*row_starts)[o];
  builder.counted();
  for_each_kept(s, mask, [&](int o, int c, int t) { builder.place(o, c, pass.taps[t], shared(o, c, t)); });
  return builder.take();
}

std::vector<SparseList> dgrad_lists(const ConvShape& s, const MaskView& mask,
                                    const std::vector<const ConvPass*>& phases, int channels, int together,
                                    const std::vector<int32_t>& stream_order,
                                    std::vector<int32_t>* stream_index) {
  struct Place {
    int phase = -1;  // -1: a phase without positions, as the map is smaller than the stride
    const PassTap* tap = nullptr;
  };
  std::vector<Place> places(s.kernel_h * s.kernel_w);
  std::vector<ListBuilder> builders;
  for (size_t p = 0; p < phases.size(); p++) {
    for (const PassTap& tap : phases[p]->taps) places[tap.index] = {static_cast<int>(p), &tap};
    builders.emplace_back(*phases[p], channels, together);
  }
  // For a pass, the layer's outputs are inputs.
  const int64_t taps = int64_t{s.kernel_h} * s.kernel_w;
  const auto shared = [&](int o, int c, int t) {
    const int other = c ^ 1;
    return together == 2 && other < s.in_channels &&
           keeps(mask, (int64_t{o} * s.in_channels + other) * taps + t);
  };
  for_each_kept(s, mask, [&](int o, int c, int t) {
    if (places[t].phase >= 0) builders[places[t].phase].count(c, o, *places[t].tap, shared(o, c, t));
  });
  int32_t total = 0;
  for (ListBuilder& builder : builders) {
    builder.counted();
    builder.list().first = total;
    total += builder.list().nnz();
  }
  stream_index->assign(total, 0);
  const int32_t* stream = stream_order.data();
  for_each_kept(s, mask, [&](int o, int c, int t) {
    const int32_t from = *stream++;
    if (places[t].phase < 0) return;
    ListBuilder& builder = builders[places[t].phase];
    const int32_t at = builder.place(c, o, *places[t].tap, shared(o, c, t));
    (*stream_index)[builder.list().first + at] = from;
  });
  std::vector<SparseList> lists;
  for (ListBuilder& builder : builders) lists.push_back(builder.take());
  return lists;
}

std::vector<int32_t> stream_order(const SparseList& list, int64_t nnz) {
  std::vector<int32_t> order;
  order.reserve(nnz);
  for (int o = 0; o < list.outputs; o++) {
    for (int b = 0; b < list.blocks; b++)
      list.for_each_packed(b, o, [&](int32_t weight, int32_t) { order.push_back(weight); });
  }
  return order;
}

}  // namespace rp

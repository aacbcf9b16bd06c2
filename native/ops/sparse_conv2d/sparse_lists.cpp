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

// Counts, then places: nonzeros in packed order of the pass's outputs.
class ListBuilder {
 public:
  ListBuilder(const ConvPass& pass, int channels) : pass_(pass) {
    list_.channels = channels;
    list_.kinds = has_row_kinds(pass) ? 3 : 1;
    list_.blocks = (pass.inputs() + channels - 1) / channels;
    list_.outputs = pass.outputs();
    counts_.assign(static_cast<size_t>(list_.blocks) * list_.outputs * list_.kinds, 0);
  }

  void count(int output, int input, const PassTap& tap) { counts_[slot(output, input, tap)]++; }

  void counted() {
    if (list_.kinds == 3) drop_wide_kinds();
    const int kinds = list_.kinds;
    list_.ends.reserve(static_cast<size_t>(list_.blocks) * (list_.outputs + 1));
    if (kinds == 3) list_.splits.reserve(static_cast<size_t>(list_.blocks) * list_.outputs * 2);
    int32_t total = 0;
    int32_t* counts = counts_.data();
    for (int b = 0; b < list_.blocks; b++) {
      for (int o = 0; o < list_.outputs; o++) {
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
    if (list_.kinds == 3) packed_.assign(list_.ends.begin(), list_.ends.end());
  }

  // Gives the nonzero's place.
  int32_t place(int output, int input, const PassTap& tap) {
    const int32_t at = counts_[slot(output, input, tap)]++;
    // + : the low bits may already hold another nonzero's kind.
    list_.list[at] += byte_offset(input, tap);
    if (list_.kinds == 3) {
      const int64_t block = input / list_.channels;
      list_.list[packed_[block * (list_.outputs + 1) + output]++] += kind_of(list_, tap);
    }
    return at;
  }

  SparseList take() { return std::move(list_); }
  SparseList& list() { return list_; }

 private:
  // Splits are bytes: where an output has more in one block, there are no kinds. Such blocks are nearly
  // dense.
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

  size_t slot(int output, int input, const PassTap& tap) const {
    return (static_cast<size_t>(input / list_.channels) * list_.outputs + output) * list_.kinds +
           kind_of(list_, tap);
  }
  int32_t byte_offset(int input, const PassTap& tap) const {
    return static_cast<int32_t>(4 *
                                (int64_t{input % list_.channels} * pass_.x.channel_stride +
                                 int64_t{tap.dr} * pass_.x.row_stride + int64_t{tap.ds} * kImagesPerBlock));
  }

  const ConvPass& pass_;
  SparseList list_;
  std::vector<int32_t> counts_;
  std::vector<int32_t> packed_;  // next in packed order, per block and output
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
                        std::vector<int32_t>* row_starts) {
  ListBuilder builder(pass, channels);
  row_starts->assign(s.out_channels + 1, 0);
  for_each_kept(s, mask, [&](int o, int c, int t) {
    builder.count(o, c, pass.taps[t]);
    (*row_starts)[o + 1]++;
  });
  for (int o = 0; o < s.out_channels; o++) (*row_starts)[o + 1] += (*row_starts)[o];
  builder.counted();
  for_each_kept(s, mask, [&](int o, int c, int t) { builder.place(o, c, pass.taps[t]); });
  return builder.take();
}

std::vector<SparseList> dgrad_lists(const ConvShape& s, const MaskView& mask,
                                    const std::vector<const ConvPass*>& phases, int channels,
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
    builders.emplace_back(*phases[p], channels);
  }
  // For a pass, the layer's outputs are inputs.
  for_each_kept(s, mask, [&](int o, int c, int t) {
    if (places[t].phase >= 0) builders[places[t].phase].count(c, o, *places[t].tap);
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
    const int32_t at = builder.place(c, o, *places[t].tap);
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
    for (int b = 0; b < list.blocks; b++) list.for_each_packed(b, o, [&](int32_t j) { order.push_back(j); });
  }
  return order;
}

}  // namespace rp

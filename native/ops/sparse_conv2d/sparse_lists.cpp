#include "ops/sparse_conv2d/sparse_lists.h"

#include "ops/sparse_conv2d/sparse_conv2d.h"

namespace rp {
namespace {

// visit(output, input, tap) for every kept weight in packed order.
template <class Visit>
void for_each_kept(const ConvShape& s, const MaskView& mask, const Visit& visit) {
  const int taps = s.kernel_h * s.kernel_w;
  int64_t bit = 0;
  for (int o = 0; o < s.out_channels; o++) {
    for (int c = 0; c < s.in_channels; c++) {
      for (int t = 0; t < taps; t++, bit++) {
        if (mask.bits[bit >> 3] >> (bit & 7) & 1) visit(o, c, t);
      }
    }
  }
}

SparseList empty_list(int inputs, int outputs, int channels) {
  SparseList list;
  list.channels = channels;
  list.blocks = (inputs + channels - 1) / channels;
  list.outputs = outputs;
  list.ends.assign(static_cast<size_t>(list.blocks) * (outputs + 1), 0);
  return list;
}

// ends[b][o + 1] holds counts; turns them into running totals over all blocks.
void accumulate(SparseList* list) {
  int32_t total = 0;
  for (int b = 0; b < list->blocks; b++) {
    int32_t* ends = list->ends.data() + int64_t{b} * (list->outputs + 1);
    ends[0] = total;
    for (int o = 1; o <= list->outputs; o++) ends[o] = total += ends[o];
  }
}

int32_t byte_offset(const ConvPass& pass, int channels, int input, const PassTap& tap) {
  return static_cast<int32_t>(4 * (int64_t{input % channels} * pass.x.channel_stride +
                                   int64_t{tap.dr} * pass.x.row_stride + int64_t{tap.ds} * kImagesPerBlock));
}

}  // namespace

SparseList forward_list(const ConvShape& s, const MaskView& mask, const ConvPass& pass, int channels,
                        std::vector<int32_t>* row_starts) {
  SparseList list = empty_list(s.in_channels, s.out_channels, channels);
  const int64_t stride = list.outputs + 1;
  row_starts->assign(s.out_channels + 1, 0);
  for_each_kept(s, mask, [&](int o, int c, int) {
    list.ends[c / channels * stride + o + 1]++;
    (*row_starts)[o + 1]++;
  });
  for (int o = 0; o < s.out_channels; o++) (*row_starts)[o + 1] += (*row_starts)[o];
  accumulate(&list);
  list.list.resize(mask.nnz);
  std::vector<int32_t> cursor = list.ends;
  for_each_kept(s, mask, [&](int o, int c, int t) {
    list.list[cursor[c / channels * stride + o]++] = byte_offset(pass, channels, c, pass.taps[t]);
  });
  return list;
}

std::vector<SparseList> dgrad_lists(const ConvShape& s, const MaskView& mask,
                                    const std::vector<ConvPass>& passes, int channels,
                                    const SparseList& forward) {
  // tap -> its phase and its place there
  std::vector<int> phase_of(s.kernel_h * s.kernel_w, -1), place_of(s.kernel_h * s.kernel_w, 0);
  for (size_t p = 0; p < passes.size(); p++) {
    for (size_t t = 0; t < passes[p].taps.size(); t++) {
      phase_of[passes[p].taps[t].index] = static_cast<int>(p);
      place_of[passes[p].taps[t].index] = static_cast<int>(t);
    }
  }
  std::vector<SparseList> lists(passes.size(), empty_list(s.out_channels, s.in_channels, channels));
  const int64_t stride = s.in_channels + 1;
  for_each_kept(s, mask, [&](int o, int c, int t) {
    if (phase_of[t] >= 0) lists[phase_of[t]].ends[o / channels * stride + c + 1]++;
  });
  std::vector<std::vector<int32_t>> cursors;
  for (SparseList& list : lists) {
    accumulate(&list);
    list.list.resize(2 * (static_cast<size_t>(list.ends.back()) + kIndexAhead));
    cursors.push_back(list.ends);
  }
  std::vector<int32_t> stream = forward.ends;
  for_each_kept(s, mask, [&](int o, int c, int t) {
    const int32_t index = stream[int64_t{c / forward.channels} * (forward.outputs + 1) + o]++;
    const int phase = phase_of[t];
    if (phase < 0) return;  // a phase without positions: the map is smaller than the stride
    const int32_t at = cursors[phase][o / channels * stride + c]++;
    lists[phase].list[2 * at] = byte_offset(passes[phase], channels, o, passes[phase].taps[place_of[t]]);
    lists[phase].list[2 * at + 1] = index;
  });
  return lists;
}

}  // namespace rp

#include "engine/cpu/layouts.h"

#include <algorithm>
#include <numeric>

namespace rp {
namespace cpu {
namespace {

// Bytes of a convolution's input and output: longer rows are cut, and a part has no more.
constexpr int64_t kLongRow = 512 << 10, kLargestPart = 1536 << 10;
constexpr int kMostRows = 4, kFewestRows = 2;  // of a part

// Groups of values.
class Groups {
 public:
  explicit Groups(size_t values) : root_(values) { std::iota(root_.begin(), root_.end(), 0); }
  int of(int v) {
    while (root_[v] != v) v = root_[v] = root_[root_[v]];
    return v;
  }
  void join(int a, int b) { root_[of(a)] = of(b); }

 private:
  std::vector<int> root_;
};

// How the positions of an image are cut; width 0: into its own rows.
struct Cut {
  int parts = 1, height = 0, width = 0;
  bool operator==(const Cut& o) const { return parts == o.parts && height == o.height && width == o.width; }
};

// Columns of a shorter row: a tile or two, without lines between channels where there are such; 0: none
// suits.
int short_row(int width) {
  for (int w = 8; w >= 5; w--) {
    if (width % w == 0 && channel_lines(w) == w) return w;
  }
  return width % 16 == 0 ? 16 : 0;
}

// channels: of the input and the output of a convolution.
Cut cut_of(const Value& map, int64_t channels) {
  const int64_t column = channels * kImagesPerBlock * 4;
  const int width = short_row(map.width);
  if (column * map.width <= kLongRow || width == 0) return {};
  const int rows = map.height * map.width / width;
  for (int height = kMostRows; height >= kFewestRows; height /= 2) {
    if (rows % height != 0 || rows == height || column * width * height > kLargestPart) continue;
    return {rows / height, height, width};
  }
  return {};
}

// Sparse: a dense weight gradient wants tiles of more positions than a short row has.
bool works_by_position(const ConvSpec& spec, const RpModel& model) {
  const ConvShape& s = spec.shape;
  const RpParam& weight = model.params[spec.weight];
  return s.kernel_h == 1 && s.kernel_w == 1 && s.stride == 1 && s.padding == 0 && weight.mask != nullptr &&
         !suits_dense(s, {weight.mask, weight.nnz});
}

// Per value.
std::vector<Cut> cut_values(const StepGraph& graph, const RpModel& model) {
  const size_t count = graph.values.size();
  Groups groups(count);
  std::vector<char> keeps_rows(count, 0);  // of a group's root, once they are joined
  std::vector<int64_t> channels(count, 0);
  const auto by_position = [&](const Step& step) {
    return step.kind == StepKind::conv && works_by_position(graph.convs[step.conv], model);
  };
  for (const Step& step : graph.steps) {
    if (by_position(step)) groups.join(step.input(), step.output);
  }
  keeps_rows[groups.of(0)] = keeps_rows[groups.of(graph.logits)] = 1;
  for (const Step& step : graph.steps) {
    if (step.kind == StepKind::combine) continue;
    if (by_position(step)) {
      int64_t& widest = channels[groups.of(step.output)];
      const ConvShape& shape = graph.convs[step.conv].shape;
      widest = std::max<int64_t>(widest, shape.in_channels + shape.out_channels);
    } else {
      keeps_rows[groups.of(step.input())] = keeps_rows[groups.of(step.output)] = 1;
    }
  }
  std::vector<Cut> cuts(count);
  for (size_t v = 0; v < count; v++) {
    const int group = groups.of(static_cast<int>(v));
    if (!keeps_rows[group]) cuts[v] = cut_of(graph.values[v], channels[group]);
  }
  return cuts;
}

// Per value. Gradients that one buffer may carry in turn (GradientWrite::alias) must share a layout, so a
// combine step ties the gradients of its output and inputs together.
std::vector<int> gradient_borders(const StepGraph& graph, const std::vector<Cut>& cuts) {
  Groups groups(graph.values.size());
  for (const Step& step : graph.steps) {
    if (step.kind != StepKind::combine) continue;
    for (int t = 0; t < step.term_count; t++) {
      const int input = step.terms[t].value;
      if (cuts[input] == cuts[step.output]) groups.join(input, step.output);
    }
  }
  std::vector<int> of_group(graph.values.size(), 0), border(graph.values.size());
  for (const Step& step : graph.steps) {
    if (step.kind != StepKind::conv) continue;
    int& widest = of_group[groups.of(step.output)];
    widest = std::max(widest, conv_dy_border(graph.convs[step.conv].shape));
  }
  for (size_t v = 0; v < border.size(); v++) border[v] = of_group[groups.of(static_cast<int>(v))];
  return border;
}

}  // namespace

Layouts choose_layouts(const StepGraph& graph, const RpModel& model) {
  Layouts out;
  const std::vector<Cut> cuts = cut_values(graph, model);
  std::vector<int> border(graph.values.size(), 0);
  for (const Step& step : graph.steps) {
    if (step.kind != StepKind::conv) continue;
    int& widest = border[step.input()];
    widest = std::max(widest, conv_input_border(graph.convs[step.conv].shape));
  }
  const std::vector<int> gradient_border = gradient_borders(graph, cuts);
  for (size_t v = 0; v < graph.values.size(); v++) {
    const Value& value = graph.values[v];
    const Cut& cut = cuts[v];
    const auto layout = [&](int border) {
      return cut.width > 0 ? make_parted_layout(value.channels, cut.parts, cut.height, cut.width)
                           : make_layout(value.channels, value.height, value.width, border);
    };
    out.values.push_back(layout(border[v]));
    out.gradients.push_back(layout(gradient_border[v]));
  }
  out.conv_shapes.resize(graph.convs.size());
  for (const Step& step : graph.steps) {
    if (step.conv < 0) continue;
    ConvShape& shape = out.conv_shapes[step.conv] = graph.convs[step.conv].shape;
    const Cut& cut = cuts[step.output];
    if (cut.width == 0) continue;
    shape.in_height = cut.height;
    shape.in_width = cut.width;
  }
  return out;
}

}  // namespace cpu
}  // namespace rp

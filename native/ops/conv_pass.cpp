#include "ops/conv_pass.h"

#include <algorithm>

#include "core/error.h"

namespace rp {
namespace {

int floor_div(int a, int b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

// How far dgrad reads outside dy along one dimension.
int dy_overreach(int in, int out, int kernel, int stride, int padding) {
  const int before = floor_div(kernel - 1 - padding, stride);
  const int after = floor_div(in - 1 + padding, stride) - (out - 1);
  return std::max({0, before, after});
}

// How far forward reads outside x along one dimension.
int x_overreach(int in, int out, int kernel, int stride, int padding) {
  return std::max({0, padding, (out - 1) * stride + kernel - 1 - padding - (in - 1)});
}

void check_layout(const char* name, const Layout& layout, int channels, int height, int width, int border) {
  if (layout.channels != channels || layout.height != height || layout.width != width ||
      layout.border < border) {
    fail(
        "[conv] expected the layout of %s to be (%d, %d, %d) with border >= %d, got (%d, %d, %d) with border "
        "%d.",
        name, channels, height, width, border, layout.channels, layout.height, layout.width, layout.border);
  }
}

}  // namespace

int conv_input_border(const ConvShape& s) {
  return std::max(x_overreach(s.in_height, s.out_height(), s.kernel_h, s.stride, s.padding),
                  x_overreach(s.in_width, s.out_width(), s.kernel_w, s.stride, s.padding));
}

int conv_dy_border(const ConvShape& s) {
  return std::max(dy_overreach(s.in_height, s.out_height(), s.kernel_h, s.stride, s.padding),
                  dy_overreach(s.in_width, s.out_width(), s.kernel_w, s.stride, s.padding));
}

ConvPass forward_pass(const ConvShape& s, const ConvLayouts& layouts) {
  ConvPass pass;
  pass.x = layouts.x;
  pass.y = layouts.y;
  pass.rows = s.out_height();
  pass.cols = s.out_width();
  pass.x_step = s.stride;
  for (int r = 0; r < s.kernel_h; r++) {
    for (int c = 0; c < s.kernel_w; c++) {
      pass.taps.push_back({r - s.padding, c - s.padding, r * s.kernel_w + c});
    }
  }
  return pass;
}

std::vector<ConvPass> dgrad_passes(const ConvShape& s, const ConvLayouts& layouts) {
  std::vector<ConvPass> passes;
  for (int a = 0; a < std::min(s.stride, s.in_height); a++) {
    for (int b = 0; b < std::min(s.stride, s.in_width); b++) {
      ConvPass pass;
      pass.x = layouts.dy;
      pass.y = layouts.dx;
      pass.rows = (s.in_height - a + s.stride - 1) / s.stride;
      pass.cols = (s.in_width - b + s.stride - 1) / s.stride;
      pass.y_step = s.stride;
      pass.y_row = a;
      pass.y_col = b;
      for (int r = 0; r < s.kernel_h; r++) {
        for (int c = 0; c < s.kernel_w; c++) {
          // h = p·stride + r - padding, so p = (h + padding - r) / stride with h = stride·row + a.
          const int up = a + s.padding - r, left = b + s.padding - c;
          if (up % s.stride != 0 || left % s.stride != 0) continue;
          pass.taps.push_back({up / s.stride, left / s.stride, r * s.kernel_w + c});
        }
      }
      passes.push_back(std::move(pass));
    }
  }
  return passes;
}

const ConvPass& main_pass(const std::vector<ConvPass>& passes) {
  return *std::max_element(passes.begin(), passes.end(), [](const ConvPass& a, const ConvPass& b) {
    return a.taps.size() < b.taps.size();
  });
}

std::vector<int> tap_rows(const ConvPass& pass) {
  std::vector<int> rows;
  for (const PassTap& tap : pass.taps) {
    if (rows.empty() || rows.back() != tap.dr) rows.push_back(tap.dr);
  }
  return rows;
}

std::vector<int> tap_cols(const ConvPass& pass) {
  std::vector<int> cols;
  for (const PassTap& tap : pass.taps) {
    if (tap.dr == pass.taps.front().dr) cols.push_back(tap.ds);
  }
  return cols;
}

ConvPass pass_of_positions(const Layout& layout) {
  ConvPass pass;
  pass.x = layout;
  pass.taps.push_back({0, 0, 0});
  return pass;
}

void check_conv(const ConvShape& s, const MaskView& mask, const ConvLayouts& layouts) {
  if (s.in_channels < 1 || s.out_channels < 1 || s.in_height < 1 || s.in_width < 1 || s.kernel_h < 1 ||
      s.kernel_w < 1 || s.stride < 1 || s.padding < 0 || s.in_height + 2 * s.padding < s.kernel_h ||
      s.in_width + 2 * s.padding < s.kernel_w) {
    fail("[conv] impossible shape: %d -> %d channels, kernel %dx%d, stride %d, padding %d on a %dx%d map.",
         s.in_channels, s.out_channels, s.kernel_h, s.kernel_w, s.stride, s.padding, s.in_height, s.in_width);
  }
  check_layout("x", layouts.x, s.in_channels, s.in_height, s.in_width, conv_input_border(s));
  check_layout("y", layouts.y, s.out_channels, s.out_height(), s.out_width(), 0);
  if (layouts.has_dgrad || layouts.has_wgrad) {
    check_layout("dy", layouts.dy, s.out_channels, s.out_height(), s.out_width(),
                 layouts.has_dgrad ? conv_dy_border(s) : 0);
  }
  if (layouts.has_dgrad) check_layout("dx", layouts.dx, s.in_channels, s.in_height, s.in_width, 0);

  const int64_t numel = s.numel();
  if (numel > INT32_MAX)
    fail("[conv] a layer of %lld weights exceeds 2^31 - 1.", static_cast<long long>(numel));
  // Byte offsets of nonzeros are 32-bit; a block of channels spans less than a row.
  const Layout* read[] = {&layouts.x, layouts.has_dgrad ? &layouts.dy : &layouts.x};
  for (const Layout* layout : read) {
    const int64_t span = layout->row_stride * (std::max(s.kernel_h, s.kernel_w) + 1) * 4;
    if (span > INT32_MAX)
      fail("[conv] rows of %lld floats are too long.", static_cast<long long>(layout->row_stride));
  }
  if (mask.bits == nullptr) return;
  int64_t kept = 0;
  for (int64_t byte = 0; byte < (numel + 7) / 8; byte++) kept += __builtin_popcount(mask.bits[byte]);
  if (kept != mask.nnz || (numel % 8 != 0 && mask.bits[numel / 8] >> (numel % 8) != 0)) {
    fail("[conv] expected a mask of %lld kept weights out of %lld, got %lld bits.",
         static_cast<long long>(mask.nnz), static_cast<long long>(numel), static_cast<long long>(kept));
  }
}

}  // namespace rp

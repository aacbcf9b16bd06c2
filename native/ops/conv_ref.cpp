#include "ops/conv_ref.h"

#include <algorithm>
#include <cmath>

namespace rp {

void conv_ref(const ConvShape& s, int n, const ConvReference& a) {
  const int64_t in_map = int64_t{s.in_height} * s.in_width, out_map = int64_t{s.out_height()} * s.out_width();
  const int64_t numel = s.numel();
  std::fill(a.y, a.y + n * s.out_channels * out_map, 0.0);
  std::fill(a.y_size, a.y_size + n * s.out_channels * out_map, 0.0);
  std::fill(a.dx, a.dx + n * s.in_channels * in_map, 0.0);
  std::fill(a.dx_size, a.dx_size + n * s.in_channels * in_map, 0.0);
  std::fill(a.dw, a.dw + numel, 0.0);
  std::fill(a.dw_size, a.dw_size + numel, 0.0);

  for (int i = 0; i < n; i++) {
    for (int k = 0; k < s.out_channels; k++) {
      for (int c = 0; c < s.in_channels; c++) {
        for (int r = 0; r < s.kernel_h; r++) {
          for (int q = 0; q < s.kernel_w; q++) {
            const int64_t at_w = ((int64_t{k} * s.in_channels + c) * s.kernel_h + r) * s.kernel_w + q;
            for (int oh = 0; oh < s.out_height(); oh++) {
              const int h = oh * s.stride + r - s.padding;
              if (h < 0 || h >= s.in_height) continue;
              for (int ow = 0; ow < s.out_width(); ow++) {
                const int w = ow * s.stride + q - s.padding;
                if (w < 0 || w >= s.in_width) continue;
                const int64_t at_x = (int64_t{i} * s.in_channels + c) * in_map + int64_t{h} * s.in_width + w;
                const int64_t at_y =
                    (int64_t{i} * s.out_channels + k) * out_map + int64_t{oh} * s.out_width() + ow;
                const double forward = double{a.w[at_w]} * a.x[at_x];
                const double dgrad = double{a.w[at_w]} * a.dy[at_y];
                const double wgrad = double{a.x[at_x]} * a.dy[at_y];
                a.y[at_y] += forward;
                a.y_size[at_y] += std::abs(forward);
                a.dx[at_x] += dgrad;
                a.dx_size[at_x] += std::abs(dgrad);
                a.dw[at_w] += wgrad;
                a.dw_size[at_w] += std::abs(wgrad);
              }
            }
          }
        }
      }
    }
  }
}

}  // namespace rp

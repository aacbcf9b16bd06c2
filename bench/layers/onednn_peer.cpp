#include "onednn_peer.h"

#include <dnnl.hpp>
#include <unordered_map>
#include <vector>

#include "cpu/huge_pages.h"

namespace rp_bench {

using dnnl::memory;
using Arguments = std::unordered_map<int, memory>;

struct OneDnnPeer::State {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  dnnl::primitive forward, dgrad, wgrad;
  Arguments forward_arguments, dgrad_arguments, wgrad_arguments;
  std::vector<rp::HugePages> pages;  // as the engine's tensors

  memory filled(const memory::desc& desc) {
    pages.emplace_back(static_cast<int64_t>(desc.get_size() / sizeof(float)));
    float* values = pages.back().data();
    memory m(desc, engine, values);
    const size_t count = desc.get_size() / sizeof(float);
    for (size_t i = 0; i < count; i++) {
      values[i] = static_cast<float>((i * 2654435761u >> 16) & 1023) / 1024.0f - 0.5f;
    }
    return m;
  }
  void execute(dnnl::primitive& primitive, const Arguments& arguments) {
    primitive.execute(stream, arguments);
    stream.wait();
  }
};

OneDnnPeer::OneDnnPeer(int images, const rp::ConvShape& shape) : state_(std::make_unique<State>()) {
  State& s = *state_;
  const auto any = memory::format_tag::any;
  const auto f32 = memory::data_type::f32;
  const memory::desc x({images, shape.in_channels, shape.in_height, shape.in_width}, f32, any);
  const memory::desc w({shape.out_channels, shape.in_channels, shape.kernel_h, shape.kernel_w}, f32, any);
  const memory::desc y({images, shape.out_channels, shape.out_height(), shape.out_width()}, f32, any);
  const memory::dims strides{shape.stride, shape.stride}, padding{shape.padding, shape.padding};
  const auto training = dnnl::prop_kind::forward_training;
  const auto direct = dnnl::algorithm::convolution_direct;
#if DNNL_VERSION_MAJOR >= 3
  const dnnl::convolution_forward::primitive_desc forward(s.engine, training, direct, x, w, y, strides,
                                                          padding, padding);
  const dnnl::convolution_backward_data::primitive_desc dgrad(s.engine, direct, x, w, y, strides, padding,
                                                              padding, forward);
  const dnnl::convolution_backward_weights::primitive_desc wgrad(s.engine, direct, x, w, y, strides, padding,
                                                                 padding, forward);
#else
  const dnnl::convolution_forward::primitive_desc forward(
      {training, direct, x, w, y, strides, padding, padding}, s.engine);
  const dnnl::convolution_backward_data::primitive_desc dgrad({direct, x, w, y, strides, padding, padding},
                                                              s.engine, forward);
  const dnnl::convolution_backward_weights::primitive_desc wgrad({direct, x, w, y, strides, padding, padding},
                                                                 s.engine, forward);
#endif
  s.forward = dnnl::convolution_forward(forward);
  s.dgrad = dnnl::convolution_backward_data(dgrad);
  s.wgrad = dnnl::convolution_backward_weights(wgrad);
  s.forward_arguments = {{DNNL_ARG_SRC, s.filled(forward.src_desc())},
                         {DNNL_ARG_WEIGHTS, s.filled(forward.weights_desc())},
                         {DNNL_ARG_DST, s.filled(forward.dst_desc())}};
  s.dgrad_arguments = {{DNNL_ARG_DIFF_SRC, s.filled(dgrad.diff_src_desc())},
                       {DNNL_ARG_WEIGHTS, s.filled(dgrad.weights_desc())},
                       {DNNL_ARG_DIFF_DST, s.filled(dgrad.diff_dst_desc())}};
  s.wgrad_arguments = {{DNNL_ARG_SRC, s.filled(wgrad.src_desc())},
                       {DNNL_ARG_DIFF_WEIGHTS, s.filled(wgrad.diff_weights_desc())},
                       {DNNL_ARG_DIFF_DST, s.filled(wgrad.diff_dst_desc())}};
}

OneDnnPeer::~OneDnnPeer() = default;
void OneDnnPeer::forward() { state_->execute(state_->forward, state_->forward_arguments); }
void OneDnnPeer::dgrad() { state_->execute(state_->dgrad, state_->dgrad_arguments); }
void OneDnnPeer::wgrad() { state_->execute(state_->wgrad, state_->wgrad_arguments); }

std::string OneDnnPeer::version() {
  const dnnl_version_t* v = dnnl_version();
  return std::to_string(v->major) + "." + std::to_string(v->minor) + "." + std::to_string(v->patch);
}

}  // namespace rp_bench

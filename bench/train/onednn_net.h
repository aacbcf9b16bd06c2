// The dense peer of whole steps: forward, backward and SGD of a network as oneDNN primitives. Convolutions
// are free to choose their formats; a reorder stands only where two formats differ; batch norm and the ReLU
// behind it are one primitive, so are an addition and its ReLU. Weights live in the format of the forward
// convolution. Gradients share buffers that are free again.
#pragma once
#include <dnnl.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace rp_bench {

// One line of the graph file (src/bench/case.ts writes it): `op a b c …`, ids being line numbers from 0.
struct Node {
  std::string op;
  std::vector<int> inputs;      // ids of nodes
  std::vector<int> attributes;  // conv2d: out kh kw stride padding · max_pool: kernel stride padding ·
                                // avg_pool: kernel stride · linear: out bias(0/1)
  double epsilon = 0;           // batch_norm
  std::vector<int> shape;       // C H W of one image
};

struct Network {
  int batch = 0;
  std::vector<Node> nodes;
};

struct Sgd {
  float lr = 0, momentum = 0, decay = 0;
};

// Device memory that returns to its pool when the last plan-time holder lets go.
class BufferPool;
using Buffer = std::shared_ptr<void>;

class OneDnnNet {
 public:
  explicit OneDnnNet(const Network&);
  ~OneDnnNet();
  // Values of every parameter in registration order, dense, row-major, one after the other.
  void load(const std::vector<float>& weights);
  // Forward, backward, update. images (N, C, H, W), labels N; gives the mean cross-entropy.
  double step(const float* images, const int* labels, const Sgd&);

 private:
  struct Tensor {
    dnnl::memory memory;
    Buffer buffer;
  };
  struct Parameter {
    dnnl::memory value, gradient;  // same format
    std::vector<float> momentum;
    std::vector<int64_t> dims;
    dnnl::memory::format_tag plain;
  };

  Tensor make(const dnnl::memory::desc&);
  Tensor reordered(const Tensor&, const dnnl::memory::desc&);
  Parameter& add_parameter(const dnnl::memory::desc&, std::vector<int64_t> dims,
                           dnnl::memory::format_tag plain);
  void run(const dnnl::primitive&, std::unordered_map<int, dnnl::memory>);
  void give(int node, Tensor gradient);

  void plan_node(int id);
  void plan_conv(int id);
  void plan_batch_norm(int id);
  void plan_relu(int id);
  void plan_add(int id);
  void plan_pool(int id);
  void plan_linear(int id);
  bool only_relu_follows(int id) const;
  double loss(const int* labels);

  Network network_;
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  std::shared_ptr<BufferPool> pool_;
  std::vector<Tensor> values_, gradients_;  // by node
  std::vector<int> consumer_count_, consumer_;
  std::vector<std::unique_ptr<Parameter>> parameters_;
  std::vector<std::function<void()>> steps_, forward_, backward_;
  // Plans of the backward pass, run last node first once all of forward is planned.
  std::vector<std::function<void()>> plan_backward_;
  std::vector<dnnl::memory> kept_;
};

}  // namespace rp_bench

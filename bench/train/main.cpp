// One contestant of the training bench (src/bench/contestant.ts): reads a case, says it is ready, then for
// each line `steps N` on stdin trains N steps and prints one JSON line with the seconds of each, its loss,
// and the peak memory.
//
//   usage: rp_bench_onednn_step CASE_DIRECTORY --threads N --lr X --momentum X --weight-decay X
#include <omp.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>

#include "onednn_net.h"

namespace {

double now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

template <class T>
std::vector<T> read(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) throw std::runtime_error(path + ": cannot be read");
  std::vector<T> values(static_cast<size_t>(file.tellg()) / sizeof(T));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(T)));
  return values;
}

// Lines `op inputs… | attributes… | epsilon | C H W`, after `batch N`.
rp_bench::Network read_network(const std::string& path) {
  std::ifstream file(path);
  rp_bench::Network network;
  std::string line, word;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    words >> word;
    if (word == "batch") {
      words >> network.batch;
      continue;
    }
    rp_bench::Node node;
    node.op = word;
    std::vector<int>* parts[] = {&node.inputs, &node.attributes, nullptr, &node.shape};
    int part = 0;
    while (words >> word) {
      if (word == "|") {
        if (++part > 3) throw std::runtime_error(path + ": a line has too many parts");
      } else if (part == 2) {
        node.epsilon = std::atof(word.c_str());
      } else {
        parts[part]->push_back(std::atoi(word.c_str()));
      }
    }
    network.nodes.push_back(node);
  }
  if (network.batch < 1 || network.nodes.empty()) throw std::runtime_error(path + ": not a graph");
  return network;
}

long peak_bytes() {
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line)) {
    if (line.rfind("VmHWM:", 0) == 0) return std::atol(line.c_str() + 6) * 1024;
  }
  return 0;
}

int train(int argc, char** argv) {
  rp_bench::Sgd sgd;
  const std::string folder = argv[1];
  for (int i = 2; i + 1 < argc; i += 2) {
    const std::string flag = argv[i];
    const double value = std::atof(argv[i + 1]);
    if (flag == "--threads") omp_set_num_threads(static_cast<int>(value));
    if (flag == "--lr") sgd.lr = static_cast<float>(value);
    if (flag == "--momentum") sgd.momentum = static_cast<float>(value);
    if (flag == "--weight-decay") sgd.decay = static_cast<float>(value);
  }
  const auto images = read<float>(folder + "/images.f32");
  const auto labels = read<int>(folder + "/labels.i32");
  rp_bench::OneDnnNet net(read_network(folder + "/graph.txt"));
  net.load(read<float>(folder + "/weights.f32"));
  const dnnl_version_t* v = dnnl_version();
  std::printf("{\"version\":\"oneDNN %d.%d.%d\"}\n", v->major, v->minor, v->patch);
  std::fflush(stdout);
  std::ofstream("/proc/self/clear_refs") << "5";
  std::string word;
  int steps;
  while (std::cin >> word >> steps) {
    std::string seconds, losses;
    for (int s = 0; s < steps; s++) {
      const double start = now();
      const double loss = net.step(images.data(), labels.data(), sgd);
      char text[64];
      std::snprintf(text, sizeof text, "%s%.9g", s ? "," : "", now() - start);
      seconds += text;
      std::snprintf(text, sizeof text, "%s%.9g", s ? "," : "", loss);
      losses += text;
    }
    std::printf("{\"seconds\":[%s],\"losses\":[%s],\"peak_bytes\":%ld}\n", seconds.c_str(), losses.c_str(),
                peak_bytes());
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(
        stderr,
        "usage: rp_bench_onednn_step CASE_DIRECTORY --threads N --lr X --momentum X --weight-decay X\n");
    return 2;
  }
  try {
    return train(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "rp_bench_onednn_step: %s\n", error.what());
    return 1;
  }
}

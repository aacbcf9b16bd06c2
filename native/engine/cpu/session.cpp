#include "engine/cpu/session.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <sstream>

#include "core/error.h"
#include "engine/cpu/plan_text.h"
#include "ops/activation/activation.h"
#include "ops/conv_search.h"

namespace rp {
namespace cpu {
namespace {

MaskView mask_of(const RpParam& param) { return {param.mask, param.nnz}; }

// The layers of a plan to replay, in order; empty: choose afresh, also where it was made for another
// instruction set, whose choices mean nothing here.
std::vector<PlannedLayer> replayed_layers(const char* text, const StepGraph& graph, Isa isa) {
  if (!text || !*text) return {};
  PlanText plan = read_plan(text);
  if (plan.engine != "cpu")
    fail("[plan] expected a plan of the cpu engine, got one of '%s'.", plan.engine.c_str());
  if (plan.isa != isa_name(isa)) return {};
  if (plan.layers.size() != graph.convs.size())
    fail("[plan] expected %zu layers, got a plan of %zu: it was made for another model.", graph.convs.size(),
         plan.layers.size());
  for (size_t i = 0; i < plan.layers.size(); i++) {
    const PlannedLayer& layer = plan.layers[i];
    const std::string shape = shape_text(graph.convs[i].shape);
    if (layer.name != graph.convs[i].name || layer.shape != shape)
      fail("[plan] expected layer %zu to be %s (%s), got %s (%s): it was made for another model.", i,
           graph.convs[i].name.c_str(), shape.c_str(), layer.name.c_str(), layer.shape.c_str());
  }
  return std::move(plan.layers);
}

// Of RpSessionConfig.tiles.
std::map<std::string, ConvSearched> known_tiles(const char* text) {
  std::map<std::string, ConvSearched> known;
  std::istringstream lines(text ? text : "");
  for (std::string line; std::getline(lines, line);) {
    const size_t tab = line.find('\t');
    if (tab == std::string::npos)
      fail("[tiles] expected lines of a key, a tab and a choice, got \"%s\".", line.c_str());
    known[line.substr(0, tab)] = {line.substr(tab + 1), ""};
  }
  return known;
}

// What a search made before found for this layer; null where there is none, or it is another version's and
// names a tile that is no more.
const ConvSearched* known_search(const std::map<std::string, ConvSearched>& known, const std::string& key,
                                 const ConvShape& shape, const MaskView& mask, const ConvLayouts& layouts,
                                 Isa isa) {
  const auto found = known.find(key);
  if (found == known.end() || !conv_takes(shape, mask, layouts, found->second.choice, isa)) return nullptr;
  return &found->second;
}

}  // namespace

Session::Session(const RpModel& model, const RpSessionConfig& config)
    : plan_(make_plan(model, config)),
      isa_(cpu_isa()),
      combine_(combine_kernels(isa_)),
      batch_norm_(batch_norm_kernels(isa_)),
      pool_(pool_kernels(isa_)),
      team_(plan_.threads, config.pin_threads != 0),
      parameters_(model, config.programs, isa_),
      arena_(plan_.arena_floats),
      made_values_(plan_.threads),
      made_gradients_(plan_.threads),
      sums_(plan_.sum_doubles),
      loss_sums_(plan_.blocks()) {
  make_convs(model, config);
  const bool tangent = config.programs & RP_PROGRAM_TANGENT;
  for (const BatchNormSpec& spec : plan_.graph.batch_norms) {
    const size_t c = spec.channels;
    const std::vector<double> d(c);
    const std::vector<float> f(c);
    batch_norms_.push_back({d, d, f, f, f, f, f, f, d, d});
    if (tangent) batch_norm_tangents_.push_back({d, d, d, d, d});
  }
  moments_.resize(plan_.graph.values.size());
  summed_.assign(plan_.graph.values.size(), 0);
  for (const Step& step : plan_.graph.steps) {
    for (int t = 0; t < step.term_count; t++) {
      const Term& term = step.terms[t];
      if (term.batch_norm >= 0)
        moments_[term.value].resize(2 * plan_.graph.batch_norms[term.batch_norm].channels);
    }
  }
  size_t widest = 0;
  for (const ConvSpec& spec : plan_.graph.convs) {
    if (spec.bias >= 0) widest = std::max<size_t>(widest, spec.shape.out_channels);
  }
  bias_zero_.assign(widest, 0);
  bias_one_.assign(widest, 1);
  bias_.assign(widest, 0);

  reached_.assign(model.param_count, 0);
  for (const ProgramPlan& program : plan_.program_plans) {
    if (!program.weight_gradients()) continue;
    for (size_t i = 0; i < plan_.graph.steps.size(); i++) {
      const Step& step = plan_.graph.steps[i];
      if (!program.backward_steps[i].reached) continue;
      if (step.conv >= 0) {
        const ConvSpec& spec = plan_.graph.convs[step.conv];
        reached_[spec.weight] = 1;
        if (spec.bias >= 0) reached_[spec.bias] = 1;
      }
      for (int t = 0; t < step.term_count; t++) {
        if (step.terms[t].batch_norm < 0) continue;
        const BatchNormSpec& spec = plan_.graph.batch_norms[step.terms[t].batch_norm];
        reached_[spec.gamma] = reached_[spec.beta] = 1;
      }
    }
  }
}

Session::~Session() = default;

void Session::make_convs(const RpModel& model, const RpSessionConfig& config) {
  const std::vector<PlannedLayer> replay = replayed_layers(config.plan, plan_.graph, isa_);
  std::map<std::string, ConvSearched> searched = known_tiles(config.tiles);
  std::unique_ptr<ConvSearch> search;
  PlanText text{"cpu", isa_name(isa_), {}};
  for (size_t i = 0; i < plan_.graph.convs.size(); i++) {
    const ConvSpec& spec = plan_.graph.convs[i];
    const MaskView mask = mask_of(model.params[spec.weight]);
    const ConvShape& shape = plan_.conv_shapes[i];
    const ConvLayouts layouts = plan_.conv_layouts(static_cast<int>(i));
    PlannedLayer planned{spec.name, shape_text(spec.shape), "", "", "", ""};
    ConvOptions options;
    options.max_blocks = plan_.blocks_of(static_cast<int>(i));
    if (!replay.empty()) {
      options.choice = replay[i].choice;
    } else if (config.measure) {
      planned.key = conv_search_key(shape, mask, layouts, options.max_blocks);
      const ConvSearched* found = known_search(searched, planned.key, shape, mask, layouts, isa_);
      if (!found) {
        if (!search) search = std::make_unique<ConvSearch>(team_, config.cancel);
        searched[planned.key] = search->search(shape, mask, layouts, options);
        found = &searched[planned.key];
      }
      options.choice = found->choice;
      planned.figures = found->figures;
    }
    Conv conv;
    conv.layer = make_conv(shape, mask, layouts, options, team_);
    conv.weights = conv.layer->make_weights();
    if (config.programs & RP_PROGRAM_TANGENT) conv.direction = conv.layer->make_weights();
    planned.kernel = conv.layer->kernel();
    planned.choice = conv.layer->choice();
    text.layers.push_back(std::move(planned));
    convs_.push_back(std::move(conv));
    pack(static_cast<int>(i));
  }
  plan_text_ = write_plan(text);
}

RpMemory Session::memory(const RpModel& model, const RpSessionConfig& config) {
  const Plan plan = make_plan(model, config);
  RpMemory memory{};
  memory.activations = plan.arena_floats * static_cast<int64_t>(sizeof(float)) +
                       plan.sum_doubles * static_cast<int64_t>(sizeof(double));
  memory.parameters = Parameters::bytes(model, config.programs);
  int64_t scratch = 0;  // shared by all layers of a team
  const Isa isa = cpu_isa();
  const bool measures = config.measure && replayed_layers(config.plan, plan.graph, isa).empty();
  const std::map<std::string, ConvSearched> known = known_tiles(measures ? config.tiles : nullptr);
  std::set<std::string> searches;
  for (size_t i = 0; i < plan.graph.convs.size(); i++) {
    const ConvSpec& spec = plan.graph.convs[i];
    const RpParam& param = model.params[spec.weight];
    const ConvShape& shape = plan.conv_shapes[i];
    const ConvLayouts layouts = plan.conv_layouts(static_cast<int>(i));
    const MaskView mask = mask_of(param);
    const int most_blocks = plan.blocks_of(static_cast<int>(i));
    const int64_t held = conv_bytes(shape, mask, layouts, 0, most_blocks);
    memory.parameters += held;
    scratch = std::max(scratch, conv_bytes(shape, mask, layouts, plan.threads, most_blocks) - held);
    if (measures) {
      const std::string key = conv_search_key(shape, mask, layouts, most_blocks);
      if (!known_search(known, key, shape, mask, layouts, isa)) searches.insert(key);
    }
    // The direction's copy.
    if (config.programs & RP_PROGRAM_TANGENT) memory.parameters += conv_weights_bytes(shape, mask, layouts);
  }
  memory.activations += scratch;
  memory.searches = static_cast<int32_t>(searches.size());
  return memory;
}

void Session::pack(int conv) {
  const ConvSpec& spec = plan_.graph.convs[conv];
  OpTimer timer(profile_, OpKind::pack, spec.name);
  convs_[conv].layer->pack(parameters_.values(spec.weight), *convs_[conv].weights, team_);
}

void Session::read(int32_t kind, int32_t index, float* out, int64_t count) {
  const float* from = parameters_.tensor(kind, index, count);
  if (count > 0) std::memcpy(out, from, count * sizeof(float));
}

void Session::write(int32_t kind, int32_t index, const float* values, int64_t count) {
  float* to = parameters_.tensor(kind, index, count);
  if (count > 0) std::memcpy(to, values, count * sizeof(float));
  if (kind != RP_VALUE) return;
  for (size_t i = 0; i < convs_.size(); i++) {
    if (plan_.graph.convs[i].weight == index) pack(static_cast<int>(i));
  }
}

float* const* Session::made(const Layout& layout, std::vector<float*>& of_members) {
  float* room = arena_.data() + plan_.transient_begin + layout.margin;
  if (&of_members == &made_gradients_) room += plan_.transient_floats;
  for (float*& of_member : of_members) {
    of_member = room;
    room += 2 * plan_.transient_floats;
  }
  return of_members.data();
}

void Session::begin(const ProgramPlan& program, const RpBatch& batch) {
  if (batch.n < 1 || batch.n > plan_.max_batch)
    fail("[cpu] expected a batch of 1 to %d images, got %d.", plan_.max_batch, batch.n);
  const int classes = plan_.graph.values[plan_.graph.logits].channels;
  for (int i = 0; i < batch.n; i++) {
    if (batch.labels[i] < 0 || batch.labels[i] >= classes)
      fail("[cpu] expected labels in [0, %d), got %d for image %d.", classes, batch.labels[i], i);
  }
  program_ = &program;
  batch_ = batch;
  n_ = batch.n;
  blocks_ = image_blocks(batch.n);
  import(batch);
}

RpBatchResult Session::gradient(const RpBatch& batch, const RpGradientOptions& options) {
  begin(plan_.program(RP_PROGRAM_TRAIN), batch);
  if (!options.accumulate) parameters_.save_running();
  forward(options.update_running_stats != 0);
  const RpBatchResult result = loss(batch, options.loss, options.weight);
  if (!options.accumulate) clear_unreached_gradients(&Parameters::gradient);
  backward(options.accumulate != 0);
  return result;
}

void Session::update(const RpSgd& sgd) {
  plan_.program(RP_PROGRAM_TRAIN);
  {
    OpTimer timer(profile_, OpKind::update);
    parameters_.update(sgd, team_);
  }
  for (size_t i = 0; i < convs_.size(); i++) pack(static_cast<int>(i));
  profile_.end_step();
}

bool Session::gradient_is_finite() {
  OpTimer timer(profile_, OpKind::finite_check);
  return parameters_.gradient_is_finite(team_);
}

std::string Session::non_finite_layer() {
  parameters_.restore_running();
  const std::string step = first_non_finite_step();
  if (!step.empty()) return step;
  const int parameter = parameters_.last_non_finite_gradient();
  return parameter >= 0 ? parameters_[parameter].name : "loss";
}

RpBatchResult Session::evaluate(const RpBatch& batch, const RpLoss& options, float* logits) {
  begin(plan_.program(RP_PROGRAM_EVAL), batch);
  forward(false);
  const int out = plan_.graph.logits;
  if (logits) export_images(value(out), plan_.values[out], n_, nullptr, logits, 0, blocks_);
  return loss(batch, options, 1);
}

RpBatchResult Session::input_gradient(const RpBatch& batch, const RpLoss& options, const double* input_scale,
                                      float* dx) {
  begin(plan_.program(RP_PROGRAM_INPUT_GRADIENT), batch);
  forward(false);
  const RpBatchResult result = loss(batch, options, 1);
  backward(false);
  const Layout& layout = plan_.gradients[0];
  if (program_->gradients[0] < 0) fail("[cpu] the loss does not depend on the input of this graph.");
  team_.parallel_range(blocks_, [&](int64_t begin, int64_t end, int) {
    export_images(gradient_of(0), layout, n_, input_scale, dx, begin, end);
  });
  return result;
}

RpBatchResult Session::tangent(const RpBatch& batch, const RpGradientOptions& options) {
  const ProgramPlan& program = plan_.program(RP_PROGRAM_TANGENT);
  for (size_t i = 0; i < convs_.size(); i++) {
    convs_[i].layer->pack(parameters_.direction(plan_.graph.convs[i].weight), *convs_[i].direction, team_);
  }
  begin(program, batch);
  if (!options.accumulate) parameters_.save_running();
  forward(options.update_running_stats != 0);
  const RpBatchResult result = loss(batch, options.loss, options.weight);
  if (!options.accumulate) {
    clear_unreached_gradients(&Parameters::gradient);
    clear_unreached_gradients(&Parameters::gradient_tangent);
  }
  backward(options.accumulate != 0);
  return result;
}

}  // namespace cpu
}  // namespace rp

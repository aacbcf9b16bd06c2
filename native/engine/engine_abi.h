// The one interface that every engine serves: a versioned C ABI, so that an engine may live in the addon
// (cpu, reference) or in a library of its own, opened on demand (cuda). No C++ type, no exception and no
// allocation crosses it: each side frees what it made.
//
// Logical shapes are NCHW (images) and OIHW (weights); physical layout never crosses. Every array of
// parameter values is "packed": the kept elements in ascending row-major (OIHW) order, `nnz` of them
// (all `numel` where the parameter has no mask). Its element type is the engine's `value_bytes`
// (4: float, 8: double).
#pragma once
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define RP_ENGINE_ABI_VERSION 2u
#define RP_MAX_RANK 4
#define RP_ERROR_BYTES 1024

// ---- model: nodes in topological order; node 0 is the input, the last node gives the logits (C = classes,
// 1, 1)

typedef enum RpOp {
  RP_OP_INPUT = 0,
  RP_OP_CONV2D = 1,      // params {weight}; square stride and padding; no bias
  RP_OP_BATCH_NORM = 2,  // params {gamma, beta}; buffers {running_mean, running_var}
  RP_OP_RELU = 3,
  RP_OP_ADD = 4,              // two inputs of equal shape
  RP_OP_MAX_POOL = 5,         // kernel, stride, padding (padding never wins)
  RP_OP_AVG_POOL = 6,         // kernel, stride; no padding
  RP_OP_GLOBAL_AVG_POOL = 7,  // output (C, 1, 1)
  RP_OP_LINEAR = 8            // params {weight, bias or -1}; its input is read flat, C*H*W in NCHW order
} RpOp;

typedef struct RpNode {
  const char* name;                 // "blocks.0.conv1"; never null
  int32_t op;                       // RpOp
  int32_t inputs[2];                // node indices, -1: none
  int32_t channels, height, width;  // output, per image
  int32_t kernel_h, kernel_w;       // conv, pool
  int32_t stride, padding;          // conv, pool
  int32_t params[2];                // indices into RpModel.params, -1: none
  int32_t buffers[2];               // indices into RpModel.buffers, -1: none
  double epsilon, momentum;         // batch norm: PyTorch's eps 1e-5 and momentum 0.1
} RpNode;

typedef struct RpParam {
  const char* name;  // "blocks.0.conv1.weight"
  int32_t rank;
  int32_t shape[RP_MAX_RANK];  // OIHW, OI, or C
  int64_t numel;
  const uint8_t* mask;  // bit i & 7 of byte i >> 3 is element i, 1 = kept; null: every element kept
  int64_t nnz;          // kept elements, numel without a mask
  double weight_decay;  // coupled L2 of this parameter's group
} RpParam;

typedef struct RpBuffer {
  const char* name;  // "bn.running_mean"
  int64_t numel;
} RpBuffer;

typedef struct RpModel {
  int32_t node_count, param_count, buffer_count;
  const RpNode* nodes;
  const RpParam* params;  // registration order: the order of the packed gradient
  const RpBuffer* buffers;
} RpModel;

// ---- session

typedef enum RpProgram {
  RP_PROGRAM_TRAIN = 1,           // gradient, update, run
  RP_PROGRAM_EVAL = 2,            // evaluate
  RP_PROGRAM_INPUT_GRADIENT = 4,  // input_gradient
  RP_PROGRAM_TANGENT = 8          // tangent
} RpProgram;

typedef struct RpSessionConfig {
  int32_t max_batch;    // largest n of any batch
  int32_t threads;      // 0: every core this process may use
  int32_t pin_threads;  // 1: one core a thread
  uint32_t programs;    // RpProgram bits; memory is planned for these alone
  const char* plan;     // text of a plan to replay, or null: choose afresh
  int32_t measure;      // 1: choose by measured search, 0: by the engine's cost model
  const char* tiles;  // searches already made: lines "key<tab>choice" (a plan's "key" and "choice"), or null
  const volatile int32_t* cancel;  // non-zero: a search ends, and create fails; or null
} RpSessionConfig;

typedef struct RpMemory {
  int64_t activations;  // activations, their gradients, scratch
  int64_t parameters;   // values, gradients, momentum, packed streams, buffers
  int32_t searches;     // that create would make: RpSessionConfig.measure
} RpMemory;

typedef struct RpError {
  char message[RP_ERROR_BYTES];
} RpError;

typedef enum RpTensorKind {
  RP_VALUE = 0,  // indexed by parameter
  RP_GRADIENT = 1,
  RP_MOMENTUM = 2,
  RP_DIRECTION = 3,         // tangent: the direction v
  RP_GRADIENT_TANGENT = 4,  // tangent: d gradient / d (parameters along v)
  RP_RUNNING = 5            // indexed by buffer
} RpTensorKind;

typedef struct RpBatch {
  const void* images;     // (n, C, H, W), normalised
  int32_t image_bytes;    // 4: float, 8: double
  const int32_t* labels;  // n, each in [0, classes)
  int32_t n;              // 1 .. max_batch
} RpBatch;

typedef struct RpLoss {
  double label_smoothing;  // a: (1 - a) * NLL + a * mean over classes of -log p
  double logit_scale;      // logits are multiplied by it before the softmax (GraSP: 1/T); usually 1
} RpLoss;

typedef struct RpGradientOptions {
  RpLoss loss;
  double weight;                 // gradients are those of weight * (mean loss of this batch)
  int32_t accumulate;            // 0: overwrite the gradient buffer, 1: add to it
  int32_t update_running_stats;  // 0 leaves the BN buffers untouched
} RpGradientOptions;

typedef struct RpBatchResult {
  double loss;      // mean over the batch, of the loss asked for
  double nll;       // mean plain cross-entropy at logit_scale 1, no smoothing
  int64_t correct;  // arg max equals the label; ties go to the lowest class
} RpBatchResult;

typedef struct RpSgd {
  double lr, momentum;  // PyTorch semantics: the first buffer is the gradient; decay is added to the gradient
  int32_t nesterov;
} RpSgd;

// A stream of training batches. An optimiser step is made of one or more micro-batches (each one BN group).
// fetch gives micro-batch `micro` of optimiser step `step`: returns 0 and fills `batch` and `weight`
// (its share of the step's images), batch->n = 0 when the step has no such micro-batch; returns non-zero on
// failure with `error` filled. The pointers stay valid until the next fetch.
typedef struct RpBatchSource {
  void* context;
  int (*fetch)(void* context, int64_t step, int32_t micro, RpBatch* batch, double* weight, RpError* error);
} RpBatchSource;

typedef struct RpRun {
  int64_t first_step, steps;
  const double* lr;  // one per step
  double momentum;
  int32_t nesterov;
  RpLoss loss;
  const RpBatchSource* source;
  const volatile int32_t* cancel;  // non-zero: stop before the next step
  double* step_losses;             // steps values, or null
} RpRun;

typedef struct RpRunResult {
  int64_t steps_done, images, correct;
  double loss_sum;      // sum over images of the (smoothed) training loss
  double wait_seconds;  // time spent in fetch
  double seconds;
  int64_t failed_step;  // first step whose loss or gradient was not finite, or -1; that step is not applied
  char failed_layer[256];  // the layer (node or parameter name) where it first shows
} RpRunResult;

// An op that ran while a profile was on.
typedef struct RpOpEvent {
  const char* kind;        // "conv_wgrad": the engine's word for it
  const char* layer;       // conv, linear: the weight's name; otherwise the node's; null: the whole network
  int64_t step;            // updates done since start_profile
  double start, duration;  // microseconds of a steady clock, from start_profile
} RpOpEvent;

typedef struct RpSession RpSession;

// Every function that returns int gives 0 on success; otherwise `error` says where, what was expected, what
// came. A session is used by one thread at a time.
typedef struct RpEngineApi {
  uint32_t abi_version;
  const char* name;     // "cpu"
  int32_t value_bytes;  // 4 or 8

  // What `create` would allocate, without allocating it.
  int (*plan_memory)(const RpModel*, const RpSessionConfig*, RpMemory*, RpError*);
  int (*create)(const RpModel*, const RpSessionConfig*, RpSession**, RpError*);
  void (*destroy)(RpSession*);
  // JSON: {"engine", "isa", "layers": [{"name", "kernel", …}]}, replayable through RpSessionConfig.plan.
  const char* (*plan)(RpSession*);

  int (*read)(RpSession*, int32_t kind, int32_t index, void* out, int64_t count, RpError*);
  int (*write)(RpSession*, int32_t kind, int32_t index, const void* values, int64_t count, RpError*);

  // Train-mode forward and backward into the packed gradient buffer.
  int (*gradient)(RpSession*, const RpBatch*, const RpGradientOptions*, RpBatchResult*, RpError*);
  // SGD on the gradient buffer.
  int (*update)(RpSession*, const RpSgd*, RpError*);
  // gradient and update over many steps; results are read back once, at the end.
  int (*run)(RpSession*, const RpRun*, RpRunResult*, RpError*);
  // Eval-mode forward; logits (n, classes) in value_bytes, or null.
  int (*evaluate)(RpSession*, const RpBatch*, const RpLoss*, void* logits, RpBatchResult*, RpError*);
  // Eval-mode d (mean loss) / d image, (n, C, H, W) in value_bytes, channel c multiplied by input_scale[c]
  // (1/std: the derivative by the pixel rather than by the normalised value).
  int (*input_gradient)(RpSession*, const RpBatch*, const RpLoss*, const double* input_scale, void* dx,
                        RpBatchResult*, RpError*);
  // Train-mode gradient (into RP_GRADIENT) and its exact derivative along RP_DIRECTION (into
  // RP_GRADIENT_TANGENT): the Hessian-vector product, by forward-over-reverse. Takes the same options.
  int (*tangent)(RpSession*, const RpBatch*, const RpGradientOptions*, RpBatchResult*, RpError*);

  // Records the ops of every call in between. stop_profile gives them in the order in which they began; the
  // array and its strings stay valid until the session's next call. Both null: this engine records none.
  int (*start_profile)(RpSession*, RpError*);
  int (*stop_profile)(RpSession*, const RpOpEvent** events, int64_t* count, RpError*);
} RpEngineApi;

// What an engine library exports.
typedef const RpEngineApi* (*RpEngineEntry)(uint32_t abi_version);

#ifdef __cplusplus
}
#endif

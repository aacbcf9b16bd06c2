"""PyTorch as a contestant of the training bench (src/bench/contestant.ts): one fixed batch, whole steps.

usage: torch_step.py CASE_DIRECTORY THREADS nchw|channels_last|bf16

Says its version, then for each line `steps N` on stdin trains N steps and prints one JSON line with the seconds of
each, its loss and the process's peak memory. bf16 is autocast over channels_last.
"""
import json
import os
import sys
import time

import numpy as np
import torch
from torch import nn
import torch.nn.functional as F

from torch_resnet import CifarResNet

VGG16 = [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512]


class Vgg(nn.Module):
    """VGG with batch norm for 32x32 images, one linear layer."""

    def __init__(self, layers, classes):
        super().__init__()
        feature, inputs = [], 3
        for layer in layers:
            if layer == "M":
                feature.append(nn.MaxPool2d(2))
            else:
                conv = nn.Conv2d(inputs, layer, 3, 1, 1, bias=False)
                feature += [conv, nn.BatchNorm2d(layer), nn.ReLU(inplace=True)]
                inputs = layer
        self.feature = nn.Sequential(*feature)
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, x):
        return self.classifier(F.avg_pool2d(self.feature(x), 2).flatten(1))


class Bottleneck(nn.Module):
    def __init__(self, inputs, planes, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * planes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        self.downsample = None
        if stride != 1 or inputs != 4 * planes:
            projection = nn.Conv2d(inputs, 4 * planes, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(4 * planes))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        y += x if self.downsample is None else self.downsample(x)
        return F.relu(y, inplace=True)


class WideResNet50(nn.Module):
    """ResNet-50 for 224x224 images with bottlenecks `widen` times as wide inside."""

    def __init__(self, classes, widen=2):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        inputs = 64
        for stage, count in enumerate([3, 4, 6, 3]):
            planes = 64 << stage
            blocks = []
            for k in range(count):
                blocks.append(Bottleneck(inputs, planes, planes * widen, 2 if stage > 0 and k == 0 else 1))
                inputs = 4 * planes
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x)), inplace=True), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


def build(arch, classes):
    if arch == "vgg16":
        return Vgg(VGG16, classes)
    if arch == "wrn50":
        return WideResNet50(classes)
    if arch == "resnet50":
        return WideResNet50(classes, widen=1)
    depth = arch[len("resnet") :]
    if arch.startswith("resnet") and depth.isdigit() and (int(depth) - 2) % 6 == 0:
        return CifarResNet(int(depth), 16, classes)
    sys.exit(f"torch_step.py: no definition of {arch}")


def peak_bytes():
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])


def main(folder, threads, form):
    torch.set_num_threads(int(threads))
    with open(os.path.join(folder, "case.json")) as file:
        case = json.load(file)
    read = lambda name, dtype: np.fromfile(os.path.join(folder, name), dtype=dtype)
    model = build(case["arch"], case["classes"])
    parameters, weights, at = dict(model.named_parameters()), read("weights.f32", np.float32), 0
    for entry in case["params"]:
        parameter = parameters.pop(entry["name"])
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(weights[at : at + parameter.numel()]).reshape(entry["shape"]))
        at += parameter.numel()
    assert not parameters and at == len(weights), "the weights file does not match the network"
    del weights
    images = torch.from_numpy(read("images.f32", np.float32)).reshape(-1, *case["input"])
    labels = torch.from_numpy(read("labels.i32", np.int32)).long()
    if form != "nchw":
        model = model.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(
        model.parameters(), lr=case["lr"], momentum=case["momentum"], weight_decay=case["weightDecay"]
    )

    def step():
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=form == "bf16"):
            logits = model(images)
        loss = F.cross_entropy(logits.float(), labels)
        loss.backward()
        optimiser.step()
        return loss.item()

    print(json.dumps({"version": f"PyTorch {torch.__version__}"}), flush=True)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    for line in sys.stdin:
        seconds, losses = [], []
        for _ in range(int(line.split()[1])):
            start = time.perf_counter()
            losses.append(step())
            seconds.append(time.perf_counter() - start)
        print(json.dumps({"seconds": seconds, "losses": losses, "peak_bytes": peak_bytes()}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

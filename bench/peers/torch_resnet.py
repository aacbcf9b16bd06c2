"""PyTorch peer: the CIFAR ResNet of SPEC 1.2 (He et al. 2016, option B shortcuts), with the same module names.

usage: torch_resnet.py steps DIR    DIR/case.json + raw float32 files: initial weights, masks, batches -> losses
       torch_resnet.py train CONFIG.json   trains on CIFAR binary files with the CIFAR recipe -> one JSON line an epoch

`steps` feeds both engines the same numbers, so losses can be compared step by step. `train` is an independent run of
the same recipe (own shuffling and augmentation), the peer of the README's accuracy table.
"""
import json
import os
import sys
import time

import numpy as np
import torch
from torch import nn
import torch.nn.functional as F


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class CifarResNet(nn.Module):
    def __init__(self, depth=20, width=16, classes=10):
        super().__init__()
        n = (depth - 2) // 6
        self.conv = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        blocks, inputs = [], width
        for segment in range(3):
            for k in range(n):
                outputs = width << segment
                blocks.append(Block(inputs, outputs, 2 if segment > 0 and k == 0 else 1))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(inputs, classes)
        for m in self.modules():
            if isinstance(m, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(m.weight)

    def forward(self, x):
        x = self.blocks(F.relu(self.bn(self.conv(x))))
        return self.fc(x.mean((2, 3)))


def sgd(model, lr, momentum=0.9, nesterov=True, weight_decay=5e-4):
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)


def apply_masks(model, masks):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in masks:
                parameter.mul_(masks[name])


def steps(folder):
    with open(os.path.join(folder, "case.json")) as file:
        case = json.load(file)
    read = lambda name, dtype: torch.from_numpy(np.fromfile(os.path.join(folder, name), dtype=dtype))
    kind = {"float32": torch.float32, "float64": torch.float64}[case["precision"]]
    model = CifarResNet(case["depth"], case["width"], case["classes"]).to(kind)
    parameters = dict(model.named_parameters())
    masks = {}
    for entry in case["parameters"]:
        parameter = parameters.pop(entry["name"])
        with torch.no_grad():
            parameter.copy_(read(entry["values"], np.float32).reshape(parameter.shape))
        if entry.get("mask"):
            masks[entry["name"]] = read(entry["mask"], np.uint8).to(kind).reshape(parameter.shape)
    assert not parameters, f"no values for {sorted(parameters)}"
    apply_masks(model, masks)
    optimiser = sgd(model, case["lr"])
    losses = []
    for batch in case["batches"]:
        images = read(batch["images"], np.float32).to(kind).reshape(-1, 3, 32, 32)
        labels = read(batch["labels"], np.int32).long()
        optimiser.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimiser.step()
        apply_masks(model, masks)
        losses.append(loss.item())
    print(json.dumps({"torch": torch.__version__, "losses": losses}))


def read_cifar10(paths):
    rows = np.concatenate([np.fromfile(path, np.uint8).reshape(-1, 3073) for path in paths])
    return torch.from_numpy(rows[:, 1:].reshape(-1, 3, 32, 32).copy()), torch.from_numpy(rows[:, 0].astype(np.int64))


def train(path):
    with open(path) as file:
        config = json.load(file)
    torch.manual_seed(config["seed"])
    torch.set_num_threads(config.get("threads", torch.get_num_threads()))
    folder = config["data_dir"]
    files = sorted(f for f in os.listdir(folder) if f.startswith("data_batch"))
    images, labels = read_cifar10([os.path.join(folder, f) for f in files])
    test_images, test_labels = read_cifar10([os.path.join(folder, "test_batch.bin")])
    mean = torch.tensor([0.4914, 0.4822, 0.4465]).view(1, 3, 1, 1)
    std = torch.tensor([0.2023, 0.1994, 0.2010]).view(1, 3, 1, 1)
    normalise = lambda x: (x.float() / 255 - mean) / std

    model = CifarResNet(config.get("depth", 20), config.get("width", 16), 10)
    masks = {}
    for name, parameter in model.named_parameters():
        density = config.get("densities", {}).get(name)
        if density is not None and density < 1:
            masks[name] = (torch.rand(parameter.shape) < density).float()
    apply_masks(model, masks)
    epochs, batch = config["epochs"], config.get("batch_size", 128)
    optimiser = sgd(model, 0.1)
    for epoch in range(epochs):
        rate = 0.1 * 0.1 ** sum(epoch >= milestone for milestone in config["milestones"])
        for group in optimiser.param_groups:
            group["lr"] = rate
        model.train()
        order, total, started = torch.randperm(len(images)), 0.0, time.time()
        for at in range(0, len(images), batch):
            chosen = order[at : at + batch]
            padded = F.pad(images[chosen].float(), (4, 4, 4, 4), mode="reflect")
            top, left = torch.randint(0, 9, (2, len(chosen))).tolist()
            crops = torch.stack([p[:, t : t + 32, l : l + 32] for p, t, l in zip(padded, top, left)])
            flip = torch.rand(len(chosen)) < 0.5
            crops[flip] = crops[flip].flip(3)
            loss = F.cross_entropy(model(normalise(crops)), labels[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            apply_masks(model, masks)
            total += loss.item() * len(chosen)
        seconds = time.time() - started
        model.eval()
        with torch.no_grad():
            logits = torch.cat([model(normalise(test_images[i : i + 500])) for i in range(0, len(test_images), 500)])
        print(json.dumps({
            "torch": torch.__version__, "seed": config["seed"], "epoch": epoch + 1, "train_loss": total / len(images),
            "test_loss": F.cross_entropy(logits, test_labels).item(),
            "test_accuracy": (logits.argmax(1) == test_labels).float().mean().item(), "seconds": seconds,
        }), flush=True)


if __name__ == "__main__":
    {"steps": steps, "train": train}[sys.argv[1]](sys.argv[2])

/** Every named model, in the order `rp models` prints; the key is the name. */
import type { ModelSpec } from '../src/architectures/spec.js';
import resnet18 from './resnet18.js';
import resnet20 from './resnet20.js';
import resnet32 from './resnet32.js';
import resnet34 from './resnet34.js';
import resnet44 from './resnet44.js';
import resnet50 from './resnet50.js';
import resnet56 from './resnet56.js';
import resnet101 from './resnet101.js';
import resnet110 from './resnet110.js';
import vgg11 from './vgg11.js';
import vgg13 from './vgg13.js';
import vgg16 from './vgg16.js';
import vgg19 from './vgg19.js';
import wrn50 from './wrn50.js';

export const models: Readonly<Record<string, ModelSpec>> = {
  resnet20,
  resnet32,
  resnet44,
  resnet56,
  resnet110,
  vgg11,
  vgg13,
  vgg16,
  vgg19,
  resnet18,
  resnet34,
  resnet50,
  resnet101,
  wrn50,
};

/** Data: sets by name, splits, loaders, downloads. Reading, augmentation and prefetching are native (native/data). */
export type { Dataset } from './dataset.js';
export {
  type Downloaded,
  type DownloadOptions,
  type DownloadProgress,
  downloadableNames,
  downloadDataset,
} from './download.js';
export { defaultDataDir, type FoundFiles, findFiles, searchedFolders } from './find.js';
export { ImageSet, imageSet, proceduralImages, readCifar, readIdx } from './image-set.js';
export { type LoadedBatch, Loader, type LoaderOptions, openLoader } from './loader.js';
export { type ResolveOptions, resolveDataset } from './resolve.js';
export {
  type Augmentation,
  type DataName,
  dataNames,
  type NaturalName,
  type Normalisation,
  naturalSpecs,
} from './specs.js';
export { type Protocol, protocolSplits, type Splits } from './splits.js';

/** What a served volume is told of the cloud and its target, where that does not matter. */
export const NO_FAR_SHORE = { list: () => Promise.resolve({ objects: [], next: undefined }), rpoSeconds: 5 };

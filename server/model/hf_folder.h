/* hf_folder.h - where a model lies when what was given is an entry of the Hugging Face hub's cache.
 *
 * huggingface_hub keeps a model as models--ORG--NAME/snapshots/REVISION, and the revision that a
 * branch stands at in models--ORG--NAME/refs/BRANCH (huggingface_hub/file_download.py). */
#ifndef SAMEBIT_HF_FOLDER_H
#define SAMEBIT_HF_FOLDER_H

#include "kernels/base/error.h"

/* The folder that holds config.json: `folder` itself, or, where it is the root of a cache entry, the
 * snapshot of refs/main, or the only one.  The caller frees it.  NULL: no memory, or (400) a cache
 * entry whose snapshot cannot be told. */
char *hf_folder_resolve(const char *folder, struct error *err);

/* A name for the model in a folder: "ORG/NAME" within a cache entry, else the path's last component.
 * The caller frees it; NULL: no memory. */
char *hf_folder_name(const char *folder);

#endif

# SPDX-License-Identifier: Apache-2.0
"""An allocation as one Arrow record batch, through the Arrow C data and stream interfaces.

The batch is a copy. Arrow lets nobody change data that was handed out, while an allocation's
arrays can be written again by `allocate(out=...)`; the copy is plain memory movement. Nothing
in it belongs to Python, so consumers may release it on any thread, without the GIL.

Each structure owns one block of memory (`private_data`) that holds its buffers and the
structures right below it. Consumers may move one of those out and release it later than the
rest: it takes its own block along. A structure is released where its `release` is NULL.
"""
from array import array as packed
from itertools import accumulate

from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree, PyMem_RawMalloc
from cpython.pycapsule cimport (
    PyCapsule_Destructor, PyCapsule_GetPointer, PyCapsule_IsValid, PyCapsule_New,
)
from libc.errno cimport ENOMEM
from libc.stdint cimport int64_t, uint8_t, uintptr_t
from libc.string cimport memcpy, memset

from wattfill.errors import InputError, InputTypeError
from wattfill.reason import Reason


# The layout is Arrow's: https://arrow.apache.org/docs/format/CDataInterface.html
cdef struct ArrowSchema:
    const char *format
    const char *name
    const char *metadata
    int64_t flags
    int64_t n_children
    ArrowSchema **children
    ArrowSchema *dictionary
    void (*release)(ArrowSchema *) noexcept nogil
    void *private_data


cdef struct ArrowArray:
    int64_t length
    int64_t null_count
    int64_t offset
    int64_t n_buffers
    int64_t n_children
    const void **buffers
    ArrowArray **children
    ArrowArray *dictionary
    void (*release)(ArrowArray *) noexcept nogil
    void *private_data


cdef struct ArrowArrayStream:
    int (*get_schema)(ArrowArrayStream *, ArrowSchema *) noexcept nogil
    int (*get_next)(ArrowArrayStream *, ArrowArray *) noexcept nogil
    const char *(*get_last_error)(ArrowArrayStream *) noexcept nogil
    void (*release)(ArrowArrayStream *) noexcept nogil
    void *private_data


cdef enum:
    NULLABLE = 2      # a flag of ArrowSchema
    ALIGNMENT = 64    # what Arrow recommends for buffers
    N_COLUMNS = 4
    N_BUFFERS = 3     # at most, in one structure


cdef struct SchemaBlock:
    ArrowSchema *children[N_COLUMNS]
    ArrowSchema below[N_COLUMNS]        # the children, or the dictionary


cdef struct ArrayBlock:                 # room for the buffers follows
    const void *buffers[N_BUFFERS]
    ArrowArray *children[N_COLUMNS]
    ArrowArray below[N_COLUMNS]         # the children, or the dictionary


COLUMNS = ("group", "power", "reason", "bound_by")

# The dictionary of the reasons: their values are its indices.
cdef int64_t N_LABELS = len(Reason)
cdef bytes LABEL_TEXT = "".join(reason.label for reason in Reason).encode()
cdef bytes LABEL_STARTS = packed(
    "i", accumulate((len(reason.label) for reason in Reason), initial=0)
).tobytes()


cdef void release_schema(ArrowSchema *schema) noexcept nogil:
    cdef ArrowSchema *dictionary = schema.dictionary
    cdef int64_t i
    for i in range(schema.n_children):
        if schema.children[i].release != NULL:
            schema.children[i].release(schema.children[i])
    if dictionary != NULL and dictionary.release != NULL:
        dictionary.release(dictionary)
    PyMem_RawFree(schema.private_data)
    schema.release = NULL


cdef void release_array(ArrowArray *array) noexcept nogil:
    cdef ArrowArray *dictionary = array.dictionary
    cdef int64_t i
    for i in range(array.n_children):
        if array.children[i].release != NULL:
            array.children[i].release(array.children[i])
    if dictionary != NULL and dictionary.release != NULL:
        dictionary.release(dictionary)
    PyMem_RawFree(array.private_data)
    array.release = NULL


cdef int start_schema(
    ArrowSchema *schema, const char *format, const char *name, int64_t flags,
    int64_t n_children, bint has_dictionary,
) noexcept nogil:
    """Start a structure; those below it are released until they are started too."""
    cdef SchemaBlock *block = <SchemaBlock *> PyMem_RawCalloc(1, sizeof(SchemaBlock))
    cdef int64_t i
    if block == NULL:
        return -1
    memset(schema, 0, sizeof(ArrowSchema))
    schema.format = format
    schema.name = name
    schema.flags = flags
    schema.n_children = n_children
    for i in range(n_children):
        block.children[i] = &block.below[i]
    if n_children:
        schema.children = block.children
    if has_dictionary:
        schema.dictionary = block.below
    schema.release = release_schema
    schema.private_data = block
    return 0


cdef char *start_array(
    ArrowArray *array, int64_t length, int64_t n_buffers, size_t room,
    int64_t n_children, bint has_dictionary,
) noexcept nogil:
    """Start a structure and return aligned room for its buffers, or NULL if there is no memory.

    Its buffers are NULL, and the structures below it are released, until they are filled in.
    """
    cdef ArrayBlock *block = <ArrayBlock *> PyMem_RawMalloc(sizeof(ArrayBlock) + ALIGNMENT + room)
    cdef uintptr_t start
    cdef int64_t i
    if block == NULL:
        return NULL
    memset(block, 0, sizeof(ArrayBlock))
    memset(array, 0, sizeof(ArrowArray))
    array.length = length
    array.n_buffers = n_buffers
    array.buffers = block.buffers
    array.n_children = n_children
    for i in range(n_children):
        block.children[i] = &block.below[i]
    if n_children:
        array.children = block.children
    if has_dictionary:
        array.dictionary = block.below
    array.release = release_array
    array.private_data = block
    start = <uintptr_t> (block + 1)
    return <char *> (start + (-start) % ALIGNMENT)


cdef int fill_schema(ArrowSchema *schema) noexcept nogil:
    """Describe the batch; -1 if there is no memory."""
    if start_schema(schema, "+s", "", 0, N_COLUMNS, False) < 0:
        return -1
    if (
        start_schema(schema.children[0], "l", "group", 0, 0, False) < 0
        or start_schema(schema.children[1], "g", "power", 0, 0, False) < 0
        or start_schema(schema.children[2], "c", "reason", 0, 0, True) < 0
        or start_schema(schema.children[2].dictionary, "u", "", 0, 0, False) < 0
        or start_schema(schema.children[3], "l", "bound_by", NULLABLE, 0, False) < 0
    ):
        schema.release(schema)
        return -1
    return 0


cdef int fill_values(
    ArrowArray *array, int64_t n, const void *values, size_t width, bint has_dictionary
) noexcept nogil:
    """Fill in a column without nulls."""
    cdef char *room = start_array(array, n, 2, n * width, 0, has_dictionary)
    if room == NULL:
        return -1
    if n:
        memcpy(room, values, n * width)
    array.buffers[1] = room
    return 0


cdef int fill_groups(ArrowArray *array, int64_t n, const int64_t *groups) noexcept nogil:
    """Fill in a column of group indices that is null where one is -1."""
    cdef size_t values = n * sizeof(int64_t)
    cdef size_t validity = (n + 7) // 8
    cdef char *room = start_array(array, n, 2, values + validity, 0, False)
    cdef int64_t i, n_valid = 0
    cdef uint8_t *bits
    if room == NULL:
        return -1
    bits = <uint8_t *> room + values
    memset(bits, 0, validity)
    for i in range(n):
        bits[i >> 3] |= <uint8_t> ((groups[i] >= 0) << (i & 7))
        n_valid += groups[i] >= 0
    if n:
        memcpy(room, groups, values)
    array.buffers[0] = bits
    array.buffers[1] = room
    array.null_count = n - n_valid
    return 0


cdef int fill_labels(
    ArrowArray *array, int64_t n, const char *starts, size_t starts_size,
    const char *text, size_t text_size,
) noexcept nogil:
    """Fill in a column of strings."""
    cdef char *room = start_array(array, n, 3, starts_size + text_size, 0, False)
    if room == NULL:
        return -1
    memcpy(room, starts, starts_size)
    memcpy(room + starts_size, text, text_size)
    array.buffers[1] = room
    array.buffers[2] = room + starts_size
    return 0


cdef int fill_batch(
    ArrowArray *batch, int64_t n, const int64_t *group, const double *power,
    const uint8_t *reason, const int64_t *bound_by, const char *starts, size_t starts_size,
    const char *text, size_t text_size,
) noexcept nogil:
    """Fill in the whole batch; -1 if there is no memory."""
    if start_array(batch, n, 1, 0, N_COLUMNS, False) == NULL:
        return -1
    if (
        fill_values(batch.children[0], n, group, sizeof(int64_t), False) < 0
        or fill_values(batch.children[1], n, power, sizeof(double), False) < 0
        or fill_values(batch.children[2], n, reason, sizeof(uint8_t), True) < 0
        or fill_labels(
            batch.children[2].dictionary, N_LABELS, starts, starts_size, text, text_size
        ) < 0
        or fill_groups(batch.children[3], n, bound_by) < 0
    ):
        batch.release(batch)
        return -1
    return 0


# A stream of one batch, which is `private_data` until it has been fetched.
cdef int get_schema(ArrowArrayStream *stream, ArrowSchema *schema) noexcept nogil:
    return ENOMEM if fill_schema(schema) < 0 else 0


cdef int get_next(ArrowArrayStream *stream, ArrowArray *batch) noexcept nogil:
    cdef ArrowArray *kept = <ArrowArray *> stream.private_data
    # After the first time this hands out a released structure, which is how a stream ends.
    batch[0] = kept[0]
    kept.release = NULL
    return 0


cdef const char *get_last_error(ArrowArrayStream *stream) noexcept nogil:
    return NULL


cdef void release_stream(ArrowArrayStream *stream) noexcept nogil:
    cdef ArrowArray *kept = <ArrowArray *> stream.private_data
    if kept.release != NULL:
        kept.release(kept)
    PyMem_RawFree(kept)
    stream.release = NULL


cdef void drop_schema(object capsule) noexcept:
    cdef ArrowSchema *schema = <ArrowSchema *> PyCapsule_GetPointer(capsule, "arrow_schema")
    if schema.release != NULL:
        schema.release(schema)
    PyMem_RawFree(schema)


cdef void drop_array(object capsule) noexcept:
    cdef ArrowArray *array = <ArrowArray *> PyCapsule_GetPointer(capsule, "arrow_array")
    if array.release != NULL:
        array.release(array)
    PyMem_RawFree(array)


cdef void drop_stream(object capsule) noexcept:
    cdef ArrowArrayStream *stream = <ArrowArrayStream *> PyCapsule_GetPointer(
        capsule, "arrow_array_stream"
    )
    if stream.release != NULL:
        stream.release(stream)
    PyMem_RawFree(stream)


cdef object new_capsule(size_t size, const char *name, PyCapsule_Destructor drop):
    """Return a capsule that owns a released structure of this size."""
    cdef void *structure = PyMem_RawCalloc(1, size)
    if structure == NULL:
        raise MemoryError
    try:
        return PyCapsule_New(structure, name, drop)
    except MemoryError:
        PyMem_RawFree(structure)
        raise


def schema():
    """Return a capsule that describes the batch."""
    capsule = new_capsule(sizeof(ArrowSchema), "arrow_schema", drop_schema)
    if fill_schema(<ArrowSchema *> PyCapsule_GetPointer(capsule, "arrow_schema")) < 0:
        raise MemoryError
    return capsule


def batch(
    const int64_t[::1] group not None,              # IN   (n_connectors,)
    const double[::1] power not None,               # IN   (n_connectors,)
    const uint8_t[::1] reason not None,             # IN   (n_connectors,)
    const int64_t[::1] bound_by not None,           # IN   (n_connectors,)
):
    """Return a capsule with the batch."""
    cdef int64_t n = group.shape[0]
    # Anybody can put an `Allocation` together; what is too short would be read past its end.
    if not n == power.shape[0] == reason.shape[0] == bound_by.shape[0]:
        raise InputError(
            f"offsets, power, reason and bound_by must be of the same connectors, got {n}, "
            f"{power.shape[0]}, {reason.shape[0]} and {bound_by.shape[0]} of them"
        )
    capsule = new_capsule(sizeof(ArrowArray), "arrow_array", drop_array)
    cdef ArrowArray *out = <ArrowArray *> PyCapsule_GetPointer(capsule, "arrow_array")
    cdef const char *starts = LABEL_STARTS
    cdef const char *text = LABEL_TEXT
    cdef size_t starts_size = len(LABEL_STARTS), text_size = len(LABEL_TEXT)
    cdef int status
    with nogil:
        status = fill_batch(
            out, n,
            &group[0] if n else NULL, &power[0] if n else NULL,
            &reason[0] if n else NULL, &bound_by[0] if n else NULL,
            starts, starts_size, text, text_size,
        )
    if status < 0:
        raise MemoryError
    return capsule


def stream(batch_capsule):
    """Move the batch into a capsule with a stream that gives it out."""
    cdef ArrowArray *batch = <ArrowArray *> PyCapsule_GetPointer(batch_capsule, "arrow_array")
    capsule = new_capsule(sizeof(ArrowArrayStream), "arrow_array_stream", drop_stream)
    cdef ArrowArrayStream *out = <ArrowArrayStream *> PyCapsule_GetPointer(
        capsule, "arrow_array_stream"
    )
    out.private_data = PyMem_RawMalloc(sizeof(ArrowArray))
    if out.private_data == NULL:
        raise MemoryError
    (<ArrowArray *> out.private_data)[0] = batch[0]
    batch.release = NULL
    out.get_schema = get_schema
    out.get_next = get_next
    out.get_last_error = get_last_error
    out.release = release_stream
    return capsule


cdef str name_of(const ArrowSchema *schema):
    # A name is optional, and in UTF-8 if whoever made it kept to the rules.
    return "" if schema.name == NULL else schema.name.decode("utf-8", "replace")


def check_request(capsule):
    """Refuse a requested schema that has other columns; types may differ, and are not followed."""
    if not PyCapsule_IsValid(capsule, "arrow_schema"):
        raise InputTypeError(
            f"requested_schema must be a capsule of an Arrow schema or None, got {capsule!r}"
        )
    cdef ArrowSchema *requested = <ArrowSchema *> PyCapsule_GetPointer(capsule, "arrow_schema")
    if requested.release == NULL:
        raise InputError("requested_schema must be an Arrow schema, got one that was released")
    names = [name_of(requested.children[i]) for i in range(requested.n_children)]
    if tuple(names) != COLUMNS:
        raise InputError(
            f"requested_schema must have the columns {', '.join(COLUMNS)}, "
            f"got {', '.join(names) or 'none'}"
        )

"""What an allocation turns into: dicts, data frames, Arrow structures, a line in a REPL."""

import copy
import ctypes
import gc
import json
import pickle
import subprocess
import sys
import threading
import tracemalloc
from typing import ClassVar

import numpy as np
import pandas
import polars
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattfill import Allocation, InputError, InputTypeError, MissingExtraError, Reason, allocate

FIELDS = ("power", "reason", "bound_by", "level", "usable", "used", "needed", "offsets")
FIELDS += ("resolution",)
LABELS = ["idle", "paused", "minimum", "sharing", "maximum"]


def every_reason() -> Allocation:
    # 12 kW: the minimums 1 + 6 + 1 fit and 10 does not. The first stops at 2, the second is held
    # at 6, so the third gets the remaining 4. The last has no session.
    return allocate(
        [1, 6, 1, 10, 0], [2, 10, 20, 10, 9], 12, active=[True, True, True, True, False]
    )


def empty_groups_in_between() -> Allocation:
    return allocate([5, 0, 0], [7, 3, 3], [1, 7, 1, 2, 1], [0, 0, 1, 1, 3, 3])


def no_connectors() -> Allocation:
    return allocate([], [], [10, 20], [0, 0, 0])


def no_groups() -> Allocation:
    return allocate([], [], [], [0])


def a_million_connectors() -> Allocation:
    n = 1_000_000
    maximum = np.arange(n) % 23 + 1.0
    return allocate(
        np.minimum(maximum, 6.0), maximum, np.full(n // 50, 300.0), np.arange(0, n + 1, 50)
    )


def random_allocation(offsets: list[int], seed: int) -> Allocation:
    """Make up an allocation: no conversion may depend on what `allocate` would answer."""
    n_groups, n_connectors = len(offsets) - 1, offsets[-1]
    draw = np.random.default_rng(seed)
    return Allocation(
        draw.random(n_connectors),
        draw.integers(0, 5, n_connectors, np.uint8),
        draw.integers(-1, 3, n_connectors),
        *np.ones((4, n_groups)),
        np.array(offsets),
        1e-6,
    )


allocations = st.builds(
    random_allocation,
    st.lists(st.integers(0, 20), max_size=12).map(lambda sizes: np.cumsum([0, *sizes]).tolist()),
    st.integers(0, 2**32),
)
edges = pytest.mark.parametrize(
    "make", [every_reason, empty_groups_in_between, no_connectors, no_groups]
)


def test_a_connector_becomes_a_dict_of_plain_values():
    dicts = every_reason().to_dicts()

    assert dicts == [
        {"group": 0, "power": 2.0, "reason": "maximum", "bound_by": None},
        {"group": 0, "power": 6.0, "reason": "minimum", "bound_by": 0},
        {"group": 0, "power": 4.0, "reason": "sharing", "bound_by": 0},
        {"group": 0, "power": 0.0, "reason": "paused", "bound_by": 0},
        {"group": 0, "power": 0.0, "reason": "idle", "bound_by": None},
    ]
    assert [type(value) for value in dicts[1].values()] == [int, float, str, int]
    assert json.loads(json.dumps(dicts)) == dicts


def test_groups_without_connectors_are_counted():
    assert [row["group"] for row in empty_groups_in_between().to_dicts()] == [1, 3, 3]


def test_no_connectors_are_no_dicts():
    assert no_connectors().to_dicts() == []
    assert no_groups().to_dicts() == []


@edges
def test_the_arrow_table_says_what_the_dicts_say(make):
    allocation = make()

    table = pyarrow.table(allocation)

    table.validate(full=True)
    assert table.to_pylist() == allocation.to_dicts()
    assert allocation.to_arrow().equals(table)
    assert pyarrow.table(pyarrow.record_batch(allocation)).equals(table)
    assert pyarrow.schema(allocation).equals(table.schema)


@settings(max_examples=300)
@given(allocations)
def test_any_allocation_survives_the_way_through_arrow(allocation):
    table = pyarrow.table(allocation)

    table.validate(full=True)
    assert table.to_pylist() == allocation.to_dicts()
    assert table["bound_by"].null_count == np.count_nonzero(allocation.bound_by == -1)


def test_arrow_knows_the_type_of_each_column():
    assert pyarrow.schema(no_groups()) == pyarrow.schema(
        [
            pyarrow.field("group", pyarrow.int64(), nullable=False),
            pyarrow.field("power", pyarrow.float64(), nullable=False),
            pyarrow.field(
                "reason", pyarrow.dictionary(pyarrow.int8(), pyarrow.string()), nullable=False
            ),
            pyarrow.field("bound_by", pyarrow.int64()),
        ]
    )


def test_the_dictionary_holds_the_label_of_every_reason_at_its_value():
    dictionary = pyarrow.record_batch(no_groups())["reason"].dictionary.to_pylist()

    assert dictionary == LABELS
    assert [Reason(i).label for i in range(len(Reason))] == LABELS


def test_a_stream_holds_one_batch():
    reader = pyarrow.RecordBatchReader.from_stream(every_reason())

    assert [batch.num_rows for batch in reader] == [5]


@edges
def test_the_pandas_frame_says_what_the_dicts_say(make):
    allocation = make()

    frame = allocation.to_pandas()

    assert frame.astype(object).replace({pandas.NA: None}).to_dict("records") == (
        allocation.to_dicts()
    )
    assert frame.dtypes.astype(str).to_dict() == {
        "group": "int64",
        "power": "float64",
        "reason": "category",
        "bound_by": "Int64",
    }
    assert frame["reason"].cat.categories.tolist() == LABELS


@edges
def test_the_polars_frame_says_what_the_dicts_say(make):
    allocation = make()

    frame = allocation.to_polars()

    assert frame.to_dicts() == allocation.to_dicts()
    assert frame.dtypes == [polars.Int64, polars.Float64, polars.Categorical, polars.Int64]
    assert polars.DataFrame(allocation).equals(frame)


def test_a_million_connectors_arrive_in_every_table():
    allocation = a_million_connectors()
    group = np.repeat(np.arange(20_000), 50)

    table, frame, other = allocation.to_arrow(), allocation.to_pandas(), allocation.to_polars()

    for converted in (table, frame, other):
        assert np.array_equal(converted["group"].to_numpy(), group)
        assert np.array_equal(converted["power"].to_numpy(), allocation.power)
    n_bound = np.count_nonzero(allocation.bound_by >= 0)
    assert 0 < n_bound < 1_000_000
    assert table["bound_by"].drop_null().length() == n_bound
    assert frame["bound_by"].count() == other["bound_by"].count() == n_bound
    assert (frame["reason"].cat.codes == allocation.reason).all()


@pytest.mark.parametrize("convert", ["to_dicts", "to_arrow", "to_pandas", "to_polars"])
def test_what_is_written_to_the_arrays_later_changes_no_conversion(convert):
    allocation = every_reason()
    before = repr(getattr(allocation, convert)())

    converted = getattr(allocation, convert)()
    for array in (allocation.power, allocation.reason, allocation.bound_by):
        array[:] = 1

    assert repr(converted) == before


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_a_missing_library_is_named_with_its_remedy(monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    convert = {"pyarrow": "to_arrow"}.get(library, f"to_{library}")

    with pytest.raises(
        MissingExtraError,
        match=rf"^{convert}\(\) needs {library}, which cannot be imported: pip install {library}$",
    ):
        getattr(every_reason(), convert)()


def test_allocating_loads_none_of_these_libraries():
    program = (
        "import sys, wattfill; wattfill.allocate([1], [2], 3).__arrow_c_stream__(); "
        "print({'pandas', 'polars', 'pyarrow'} & set(sys.modules))"
    )

    output = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout

    assert output == "set()\n"


# The line in a REPL, and the headroom.


def test_one_group_is_shown_with_what_it_uses():
    # Two at 15 and one that stops at 10, under 50 * (1 - 0.2).
    allocation = allocate([6, 6, 6], [16, 32, 10], 50, buffer=0.2)

    assert repr(allocation) == "Allocation(3 connectors in 1 group: 40 of 40 used)"


def test_a_power_is_shown_as_typed():
    assert repr(allocate([0], [4.14], 1234567.89)) == (
        "Allocation(1 connector in 1 group: 4.14 of 1234567.89 used)"
    )


def test_several_groups_are_shown_with_how_many_bind():
    # 3 + 3 kW above 2, and 7 kW that fit into 7: the first shares, the second does not.
    allocation = allocate([0, 0, 5], [3, 3, 7], [2, 7], [0, 2, 3])

    assert repr(allocation) == "Allocation(3 connectors in 2 groups: 1 binding)"


def test_nothing_is_shown_as_nothing():
    assert repr(no_groups()) == "Allocation(0 connectors in 0 groups)"
    assert repr(no_connectors()) == "Allocation(0 connectors in 2 groups: 0 binding)"


def test_headroom_is_what_is_left_of_each_group():
    assert empty_groups_in_between().headroom.tolist() == [1.0, 0.0, 1.0, 0.0, 1.0]


def test_headroom_is_a_whole_number_of_quanta():
    # In floats, 0.3 - 0.2 is 0.09999999999999998.
    allocation = allocate([0.1, 0.1], [0.1, 0.1], 0.3)

    assert allocation.headroom.tolist() == [0.1]


def test_headroom_counts_in_the_quanta_of_its_allocation():
    # A quantum of 0.25: three share 8 quanta, 2 each, and 2 of them are left.
    allocation = allocate([0, 0, 0], [9, 9, 9], 2.0, resolution=0.25)

    assert allocation.resolution == 0.25
    assert allocation.headroom.tolist() == [0.5]


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=8), st.integers(0, 8 * 10**9))
def test_headroom_and_use_make_up_the_usable_capacity(maximum, capacity):
    # In thousandths, so that the sums are those of whole numbers.
    allocation = allocate(
        np.zeros(len(maximum)), np.divide(maximum, 1000), capacity / 1000, resolution=0.001
    )

    thousandths = [round(x[0] * 1000) for x in (allocation.headroom, allocation.used)]
    assert sum(thousandths) == capacity
    assert allocation.headroom[0] >= 0.0


# The object itself.


@pytest.mark.parametrize("field", [*FIELDS, "headroom", "shortfall", "another"])
def test_no_attribute_can_be_set(field):
    with pytest.raises(AttributeError):
        setattr(every_reason(), field, 1)


@pytest.mark.parametrize(
    "copied", [lambda a: pickle.loads(pickle.dumps(a)), copy.copy, copy.deepcopy]
)
def test_a_copy_says_the_same(copied):
    allocation = every_reason()

    again = copied(allocation)

    assert again.to_dicts() == allocation.to_dicts()
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(again, field), getattr(allocation, field), field)


def test_an_allocation_is_equal_to_itself_alone():
    allocation = every_reason()

    assert allocation == allocation
    assert allocation != copy.copy(allocation)
    assert len({allocation, every_reason()}) == 2


def test_an_array_of_an_allocation_outlives_it():
    level = every_reason().level

    assert level.tolist() == [4.0]


# What a consumer may ask for.


def test_other_types_for_the_same_columns_may_be_asked_for():
    names = ["group", "power", "reason", "bound_by"]
    request = pyarrow.schema([(name, pyarrow.string()) for name in names])

    _, array = every_reason().__arrow_c_array__(request.__arrow_c_schema__())
    stream = every_reason().__arrow_c_stream__(requested_schema=request.__arrow_c_schema__())

    assert "arrow_array" in repr(array)
    assert "arrow_array_stream" in repr(stream)


@pytest.mark.parametrize("method", ["__arrow_c_array__", "__arrow_c_stream__"])
@pytest.mark.parametrize(
    ("names", "shown"),
    [([], "none"), (["power"], "power"), (["power", "größe"], "power, größe")],
)
def test_other_columns_are_refused(method, names, shown):
    request = pyarrow.schema([(name, pyarrow.int64()) for name in names])

    rule = "requested_schema must have the columns group, power, reason, bound_by"
    with pytest.raises(InputError, match=f"^{rule}, got {shown}$"):
        getattr(every_reason(), method)(request.__arrow_c_schema__())


@pytest.mark.parametrize("method", ["__arrow_c_array__", "__arrow_c_stream__"])
def test_a_request_that_is_no_schema_is_refused(method):
    with pytest.raises(
        InputTypeError,
        match=r"^requested_schema must be a capsule of an Arrow schema or None, got 'int64'$",
    ):
        getattr(every_reason(), method)("int64")


def test_a_capsule_of_something_else_is_refused():
    allocation = every_reason()

    with pytest.raises(InputTypeError, match=r"^requested_schema must be .* got <capsule object"):
        allocation.__arrow_c_stream__(allocation.__arrow_c_stream__())


def test_a_released_request_is_refused():
    allocation = every_reason()
    request = allocation.__arrow_c_schema__()
    pyarrow.schema(Holder(request))

    with pytest.raises(
        InputError,
        match=r"^requested_schema must be an Arrow schema, got one that was released$",
    ):
        allocation.__arrow_c_stream__(request)


# Who owns the memory.


class Holder:
    """Hands out the same capsule each time it is asked."""

    def __init__(self, capsule):
        self.capsule = capsule

    def __arrow_c_schema__(self):
        return self.capsule

    def __arrow_c_stream__(self, requested_schema=None):
        return self.capsule


class ArrowArray(ctypes.Structure):
    _fields_: ClassVar = [
        ("length", ctypes.c_int64),
        ("null_count", ctypes.c_int64),
        ("offset", ctypes.c_int64),
        ("n_buffers", ctypes.c_int64),
        ("n_children", ctypes.c_int64),
        ("buffers", ctypes.POINTER(ctypes.c_void_p)),
        ("children", ctypes.c_void_p),
        ("dictionary", ctypes.c_void_p),
        ("release", ctypes.c_void_p),
        ("private_data", ctypes.c_void_p),
    ]


class ArrowSchema(ctypes.Structure):
    _fields_: ClassVar = [
        ("format", ctypes.c_char_p),
        ("name", ctypes.c_char_p),
        ("metadata", ctypes.c_void_p),
        ("flags", ctypes.c_int64),
        ("n_children", ctypes.c_int64),
        ("children", ctypes.c_void_p),
        ("dictionary", ctypes.c_void_p),
        ("release", ctypes.c_void_p),
        ("private_data", ctypes.c_void_p),
    ]


class ArrowArrayStream(ctypes.Structure):
    _fields_: ClassVar = [
        ("get_schema", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)),
        ("get_next", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)),
        ("get_last_error", ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_void_p)),
        ("release", ctypes.c_void_p),
        ("private_data", ctypes.c_void_p),
    ]


def structure_in(capsule, kind):
    """Return the structure in a capsule, in place."""
    name = {ArrowArray: b"arrow_array", ArrowSchema: b"arrow_schema"}
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return kind.from_address(get(capsule, name.get(kind, b"arrow_array_stream")))


def child(structure, i):
    pointers = ctypes.cast(structure.children, ctypes.POINTER(ctypes.c_void_p))
    return type(structure).from_address(pointers[i])


def moved(structure):
    """Take a structure out, as the C data interface prescribes."""
    copy = type(structure).from_buffer_copy(structure)
    structure.release = None
    return copy


def release(structure):
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(structure.release)(ctypes.addressof(structure))


def doubles(structure):
    values = ctypes.cast(structure.buffers[1], ctypes.POINTER(ctypes.c_double))
    return values[: structure.length]


@pytest.fixture
def no_leak():
    """Memory, Python's and that of the capsules, must return to what it was."""
    tracemalloc.start()
    ours = tracemalloc.Filter(True, "*/wattfill/*"), tracemalloc.Filter(True, __file__)

    def held():
        gc.collect()
        return sum(t.size for t in tracemalloc.take_snapshot().filter_traces(ours).traces)

    yield held
    tracemalloc.stop()


MANY = 200
# Less than the smallest structure, leaked as often: 40 bytes.
NEGLIGIBLE = 20 * MANY


@pytest.mark.parametrize(
    "method", ["__arrow_c_schema__", "__arrow_c_array__", "__arrow_c_stream__"]
)
def test_a_capsule_that_nobody_consumes_frees_its_memory(no_leak, method):
    allocation = every_reason()
    before = no_leak()

    for _ in range(MANY):
        getattr(allocation, method)()

    assert no_leak() - before < NEGLIGIBLE


@pytest.mark.parametrize("consume", [pyarrow.schema, pyarrow.record_batch, pyarrow.table])
def test_a_consumer_frees_what_it_took(no_leak, consume):
    allocation = every_reason()
    consume(allocation)
    before = no_leak()

    for _ in range(MANY):
        consume(allocation)

    assert no_leak() - before < NEGLIGIBLE


def test_memory_that_is_held_would_be_seen(no_leak):
    allocation = every_reason()
    before = no_leak()

    capsules = [allocation.__arrow_c_array__() for _ in range(MANY)]

    assert no_leak() - before > NEGLIGIBLE
    assert len(capsules) == MANY


def test_a_capsule_is_consumed_once():
    holder = Holder(every_reason().__arrow_c_stream__())
    table = pyarrow.table(holder)

    with pytest.raises(pyarrow.ArrowInvalid, match="released"):
        pyarrow.table(holder)
    del holder
    assert table.to_pylist() == every_reason().to_dicts()


def test_a_stream_that_is_at_its_end_stays_there():
    capsule = every_reason().__arrow_c_stream__()
    stream = structure_in(capsule, ArrowArrayStream)
    place = ctypes.addressof(stream)
    batches = [ArrowArray() for _ in range(3)]

    statuses = [stream.get_next(place, ctypes.addressof(batch)) for batch in batches]

    assert statuses == [0, 0, 0]
    assert [batch.release is not None for batch in batches] == [True, False, False]
    assert stream.get_last_error(place) is None
    release(batches[0])


def test_a_stream_describes_itself_before_and_after_its_batch():
    capsule = every_reason().__arrow_c_stream__()
    stream = structure_in(capsule, ArrowArrayStream)
    place = ctypes.addressof(stream)
    schemas, batch = [ArrowSchema(), ArrowSchema()], ArrowArray()

    stream.get_schema(place, ctypes.addressof(schemas[0]))
    stream.get_next(place, ctypes.addressof(batch))
    stream.get_schema(place, ctypes.addressof(schemas[1]))

    assert [[child(s, i).name for i in range(4)] for s in schemas] == 2 * [
        [b"group", b"power", b"reason", b"bound_by"]
    ]
    for structure in (*schemas, batch):
        release(structure)


def test_a_batch_outlives_its_stream():
    capsule = every_reason().__arrow_c_stream__()
    stream = structure_in(capsule, ArrowArrayStream)
    batch = ArrowArray()
    stream.get_next(ctypes.addressof(stream), ctypes.addressof(batch))

    del capsule, stream

    assert doubles(child(batch, 1)) == [2.0, 6.0, 4.0, 0.0, 0.0]
    release(batch)


def test_a_column_that_was_moved_out_outlives_its_batch():
    _, capsule = every_reason().__arrow_c_array__()
    power = moved(child(structure_in(capsule, ArrowArray), 1))

    del capsule

    assert doubles(power) == [2.0, 6.0, 4.0, 0.0, 0.0]
    release(power)


def test_a_dictionary_moves_along_with_its_column():
    schema_capsule, capsule = every_reason().__arrow_c_array__()
    reason = moved(child(structure_in(capsule, ArrowArray), 2))
    description = moved(child(structure_in(schema_capsule, ArrowSchema), 2))

    del capsule, schema_capsule

    column = pyarrow.Array._import_from_c(ctypes.addressof(reason), ctypes.addressof(description))
    assert column.to_pylist() == ["maximum", "minimum", "sharing", "paused", "idle"]


def test_a_released_structure_is_marked_so():
    schema_capsule, capsule = every_reason().__arrow_c_array__()
    stream_capsule = every_reason().__arrow_c_stream__()
    structures = [
        structure_in(schema_capsule, ArrowSchema),
        structure_in(capsule, ArrowArray),
        structure_in(stream_capsule, ArrowArrayStream),
    ]

    for structure in structures:
        release(structure)

    assert [structure.release for structure in structures] == [None, None, None]


@pytest.mark.parametrize("column", range(4))
def test_buffers_are_aligned_as_arrow_recommends(column):
    _, capsule = every_reason().__arrow_c_array__()

    values = child(structure_in(capsule, ArrowArray), column).buffers[1]

    assert values % 64 == 0


def test_another_thread_may_release():
    kept = [pyarrow.table(every_reason()) for _ in range(MANY)]
    thread = threading.Thread(target=kept.clear)

    thread.start()
    thread.join()

    assert kept == []


@pytest.mark.parametrize(
    "method", ["__arrow_c_schema__", "__arrow_c_array__", "__arrow_c_stream__"]
)
def test_running_out_of_memory_raises_and_leaks_nothing(no_leak, method):
    testcapi = pytest.importorskip("_testcapi")
    convert = getattr(every_reason(), method)

    def failures(rounds: int) -> int:
        n_failures = 0
        # The n-th request for memory fails, for every n that there is.
        for n in [*range(1, 60)] * rounds:
            testcapi.set_nomemory(n, n + 1)
            try:
                convert()
            except MemoryError:
                n_failures += 1
            finally:
                testcapi.remove_mem_hooks()
        return n_failures

    # A place in compiled code that raises is remembered from the first time on.
    failures(1)
    before = no_leak()

    n_failures = failures(100)

    assert n_failures >= 600
    assert no_leak() - before < NEGLIGIBLE


def test_an_allocation_put_together_wrongly_is_no_table():
    whole = every_reason()
    parts = {field: getattr(whole, field) for field in FIELDS}
    short = Allocation(**parts | {"power": whole.power[:2]})
    falling = Allocation(**parts | {"offsets": np.array([5, 0])})

    with pytest.raises(
        InputError,
        match=r"^offsets, power, reason and bound_by must be of the same connectors, "
        r"got 5, 2, 5 and 5 of them$",
    ):
        short.__arrow_c_stream__()
    with pytest.raises(ValueError, match="negative"):
        falling.__arrow_c_stream__()

from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DTYPE_UNSPECIFIED: _ClassVar[DType]
    FLOAT16: _ClassVar[DType]
    FLOAT32: _ClassVar[DType]
    FLOAT64: _ClassVar[DType]
    INT32: _ClassVar[DType]
    INT64: _ClassVar[DType]
    UINT64: _ClassVar[DType]
    UINT8: _ClassVar[DType]

class Merge(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MERGE_UNSPECIFIED: _ClassVar[Merge]
    ADD: _ClassVar[Merge]
    MAXIMUM: _ClassVar[Merge]
    MINIMUM: _ClassVar[Merge]

class PaneKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PANE_UNSPECIFIED: _ClassVar[PaneKind]
    EARLY: _ClassVar[PaneKind]
    FINAL: _ClassVar[PaneKind]
    LATE: _ClassVar[PaneKind]
DTYPE_UNSPECIFIED: DType
FLOAT16: DType
FLOAT32: DType
FLOAT64: DType
INT32: DType
INT64: DType
UINT64: DType
UINT8: DType
MERGE_UNSPECIFIED: Merge
ADD: Merge
MAXIMUM: Merge
MINIMUM: Merge
PANE_UNSPECIFIED: PaneKind
EARLY: PaneKind
FINAL: PaneKind
LATE: PaneKind

class Tensor(_message.Message):
    __slots__ = ("dtype", "shape", "data")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    dtype: DType
    shape: _containers.RepeatedScalarFieldContainer[int]
    data: bytes
    def __init__(self, dtype: _Optional[_Union[DType, str]] = ..., shape: _Optional[_Iterable[int]] = ..., data: _Optional[bytes] = ...) -> None: ...

class Coordinates(_message.Message):
    __slots__ = ("rank", "world", "dp", "dp_size", "tp", "tp_size", "pp", "pp_size", "sp", "sp_size", "ep", "ep_size")
    RANK_FIELD_NUMBER: _ClassVar[int]
    WORLD_FIELD_NUMBER: _ClassVar[int]
    DP_FIELD_NUMBER: _ClassVar[int]
    DP_SIZE_FIELD_NUMBER: _ClassVar[int]
    TP_FIELD_NUMBER: _ClassVar[int]
    TP_SIZE_FIELD_NUMBER: _ClassVar[int]
    PP_FIELD_NUMBER: _ClassVar[int]
    PP_SIZE_FIELD_NUMBER: _ClassVar[int]
    SP_FIELD_NUMBER: _ClassVar[int]
    SP_SIZE_FIELD_NUMBER: _ClassVar[int]
    EP_FIELD_NUMBER: _ClassVar[int]
    EP_SIZE_FIELD_NUMBER: _ClassVar[int]
    rank: int
    world: int
    dp: int
    dp_size: int
    tp: int
    tp_size: int
    pp: int
    pp_size: int
    sp: int
    sp_size: int
    ep: int
    ep_size: int
    def __init__(self, rank: _Optional[int] = ..., world: _Optional[int] = ..., dp: _Optional[int] = ..., dp_size: _Optional[int] = ..., tp: _Optional[int] = ..., tp_size: _Optional[int] = ..., pp: _Optional[int] = ..., pp_size: _Optional[int] = ..., sp: _Optional[int] = ..., sp_size: _Optional[int] = ..., ep: _Optional[int] = ..., ep_size: _Optional[int] = ...) -> None: ...

class Sender(_message.Message):
    __slots__ = ("index", "count", "first_step", "level", "level_since", "unit_level")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    FIRST_STEP_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    LEVEL_SINCE_FIELD_NUMBER: _ClassVar[int]
    UNIT_LEVEL_FIELD_NUMBER: _ClassVar[int]
    index: int
    count: int
    first_step: int
    level: int
    level_since: int
    unit_level: int
    def __init__(self, index: _Optional[int] = ..., count: _Optional[int] = ..., first_step: _Optional[int] = ..., level: _Optional[int] = ..., level_since: _Optional[int] = ..., unit_level: _Optional[int] = ...) -> None: ...

class WindowRule(_message.Message):
    __slots__ = ("base_level", "width")
    BASE_LEVEL_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    base_level: int
    width: int
    def __init__(self, base_level: _Optional[int] = ..., width: _Optional[int] = ...) -> None: ...

class Sampling(_message.Message):
    __slots__ = ("projection_version", "projection_seed", "projection_dim", "key_version", "key_seed", "rows_per_step", "rows_per_window", "novel_rows")
    PROJECTION_VERSION_FIELD_NUMBER: _ClassVar[int]
    PROJECTION_SEED_FIELD_NUMBER: _ClassVar[int]
    PROJECTION_DIM_FIELD_NUMBER: _ClassVar[int]
    KEY_VERSION_FIELD_NUMBER: _ClassVar[int]
    KEY_SEED_FIELD_NUMBER: _ClassVar[int]
    ROWS_PER_STEP_FIELD_NUMBER: _ClassVar[int]
    ROWS_PER_WINDOW_FIELD_NUMBER: _ClassVar[int]
    NOVEL_ROWS_FIELD_NUMBER: _ClassVar[int]
    projection_version: int
    projection_seed: int
    projection_dim: int
    key_version: int
    key_seed: int
    rows_per_step: int
    rows_per_window: int
    novel_rows: int
    def __init__(self, projection_version: _Optional[int] = ..., projection_seed: _Optional[int] = ..., projection_dim: _Optional[int] = ..., key_version: _Optional[int] = ..., key_seed: _Optional[int] = ..., rows_per_step: _Optional[int] = ..., rows_per_window: _Optional[int] = ..., novel_rows: _Optional[int] = ...) -> None: ...

class Record(_message.Message):
    __slots__ = ("run", "attempt", "unit", "seq", "step", "coordinates", "sender", "rule", "units", "time_ms", "sketch", "tokens", "scalars", "agent", "heartbeat", "bye")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    COORDINATES_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    UNITS_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    SKETCH_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    SCALARS_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    BYE_FIELD_NUMBER: _ClassVar[int]
    run: str
    attempt: int
    unit: str
    seq: int
    step: int
    coordinates: Coordinates
    sender: Sender
    rule: WindowRule
    units: _containers.RepeatedScalarFieldContainer[str]
    time_ms: int
    sketch: Sketch
    tokens: Tokens
    scalars: Scalars
    agent: AgentStats
    heartbeat: Heartbeat
    bye: Bye
    def __init__(self, run: _Optional[str] = ..., attempt: _Optional[int] = ..., unit: _Optional[str] = ..., seq: _Optional[int] = ..., step: _Optional[int] = ..., coordinates: _Optional[_Union[Coordinates, _Mapping]] = ..., sender: _Optional[_Union[Sender, _Mapping]] = ..., rule: _Optional[_Union[WindowRule, _Mapping]] = ..., units: _Optional[_Iterable[str]] = ..., time_ms: _Optional[int] = ..., sketch: _Optional[_Union[Sketch, _Mapping]] = ..., tokens: _Optional[_Union[Tokens, _Mapping]] = ..., scalars: _Optional[_Union[Scalars, _Mapping]] = ..., agent: _Optional[_Union[AgentStats, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., bye: _Optional[_Union[Bye, _Mapping]] = ...) -> None: ...

class Sketch(_message.Message):
    __slots__ = ("sampling", "rows_total", "row_keys", "taps", "inclusion", "reference")
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    ROWS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    ROW_KEYS_FIELD_NUMBER: _ClassVar[int]
    TAPS_FIELD_NUMBER: _ClassVar[int]
    INCLUSION_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    sampling: Sampling
    rows_total: int
    row_keys: Tensor
    taps: _containers.RepeatedCompositeFieldContainer[TapSketch]
    inclusion: Tensor
    reference: int
    def __init__(self, sampling: _Optional[_Union[Sampling, _Mapping]] = ..., rows_total: _Optional[int] = ..., row_keys: _Optional[_Union[Tensor, _Mapping]] = ..., taps: _Optional[_Iterable[_Union[TapSketch, _Mapping]]] = ..., inclusion: _Optional[_Union[Tensor, _Mapping]] = ..., reference: _Optional[int] = ...) -> None: ...

class Summary(_message.Message):
    __slots__ = ("name", "merge", "values")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MERGE_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    name: str
    merge: Merge
    values: Tensor
    def __init__(self, name: _Optional[str] = ..., merge: _Optional[_Union[Merge, str]] = ..., values: _Optional[_Union[Tensor, _Mapping]] = ...) -> None: ...

class TapSketch(_message.Message):
    __slots__ = ("tap", "duplicate", "width", "moments", "norms", "norm_histogram", "rows", "elements", "summaries")
    TAP_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    MOMENTS_FIELD_NUMBER: _ClassVar[int]
    NORMS_FIELD_NUMBER: _ClassVar[int]
    NORM_HISTOGRAM_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    ELEMENTS_FIELD_NUMBER: _ClassVar[int]
    SUMMARIES_FIELD_NUMBER: _ClassVar[int]
    tap: str
    duplicate: bool
    width: int
    moments: Moments
    norms: Norms
    norm_histogram: Histogram
    rows: Rows
    elements: Histogram
    summaries: _containers.RepeatedCompositeFieldContainer[Summary]
    def __init__(self, tap: _Optional[str] = ..., duplicate: bool = ..., width: _Optional[int] = ..., moments: _Optional[_Union[Moments, _Mapping]] = ..., norms: _Optional[_Union[Norms, _Mapping]] = ..., norm_histogram: _Optional[_Union[Histogram, _Mapping]] = ..., rows: _Optional[_Union[Rows, _Mapping]] = ..., elements: _Optional[_Union[Histogram, _Mapping]] = ..., summaries: _Optional[_Iterable[_Union[Summary, _Mapping]]] = ...) -> None: ...

class Moments(_message.Message):
    __slots__ = ("n", "total", "outer")
    N_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    OUTER_FIELD_NUMBER: _ClassVar[int]
    n: float
    total: Tensor
    outer: Tensor
    def __init__(self, n: _Optional[float] = ..., total: _Optional[_Union[Tensor, _Mapping]] = ..., outer: _Optional[_Union[Tensor, _Mapping]] = ...) -> None: ...

class Norms(_message.Message):
    __slots__ = ("n", "sum_square", "sum_fourth", "maximum", "nonfinite")
    N_FIELD_NUMBER: _ClassVar[int]
    SUM_SQUARE_FIELD_NUMBER: _ClassVar[int]
    SUM_FOURTH_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_FIELD_NUMBER: _ClassVar[int]
    NONFINITE_FIELD_NUMBER: _ClassVar[int]
    n: float
    sum_square: float
    sum_fourth: float
    maximum: float
    nonfinite: int
    def __init__(self, n: _Optional[float] = ..., sum_square: _Optional[float] = ..., sum_fourth: _Optional[float] = ..., maximum: _Optional[float] = ..., nonfinite: _Optional[int] = ...) -> None: ...

class Histogram(_message.Message):
    __slots__ = ("is_signed", "counts", "nonfinite", "first", "size")
    IS_SIGNED_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    NONFINITE_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    is_signed: bool
    counts: Tensor
    nonfinite: int
    first: int
    size: int
    def __init__(self, is_signed: bool = ..., counts: _Optional[_Union[Tensor, _Mapping]] = ..., nonfinite: _Optional[int] = ..., first: _Optional[int] = ..., size: _Optional[int] = ...) -> None: ...

class Rows(_message.Message):
    __slots__ = ("scaled", "scale", "parts", "partial", "seen")
    SCALED_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    scaled: Tensor
    scale: Tensor
    parts: int
    partial: Tensor
    seen: Tensor
    def __init__(self, scaled: _Optional[_Union[Tensor, _Mapping]] = ..., scale: _Optional[_Union[Tensor, _Mapping]] = ..., parts: _Optional[int] = ..., partial: _Optional[_Union[Tensor, _Mapping]] = ..., seen: _Optional[_Union[Tensor, _Mapping]] = ...) -> None: ...

class Column(_message.Message):
    __slots__ = ("name", "values")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    name: str
    values: Tensor
    def __init__(self, name: _Optional[str] = ..., values: _Optional[_Union[Tensor, _Mapping]] = ...) -> None: ...

class Tokens(_message.Message):
    __slots__ = ("sampling", "rows_total", "row_keys", "columns", "token_mode", "vocabulary", "parts", "seen", "inclusion")
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    ROWS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    ROW_KEYS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_MODE_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    INCLUSION_FIELD_NUMBER: _ClassVar[int]
    sampling: Sampling
    rows_total: int
    row_keys: Tensor
    columns: _containers.RepeatedCompositeFieldContainer[Column]
    token_mode: str
    vocabulary: int
    parts: int
    seen: Tensor
    inclusion: Tensor
    def __init__(self, sampling: _Optional[_Union[Sampling, _Mapping]] = ..., rows_total: _Optional[int] = ..., row_keys: _Optional[_Union[Tensor, _Mapping]] = ..., columns: _Optional[_Iterable[_Union[Column, _Mapping]]] = ..., token_mode: _Optional[str] = ..., vocabulary: _Optional[int] = ..., parts: _Optional[int] = ..., seen: _Optional[_Union[Tensor, _Mapping]] = ..., inclusion: _Optional[_Union[Tensor, _Mapping]] = ...) -> None: ...

class Scalar(_message.Message):
    __slots__ = ("name", "step", "value", "announced")
    NAME_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    ANNOUNCED_FIELD_NUMBER: _ClassVar[int]
    name: str
    step: int
    value: float
    announced: bool
    def __init__(self, name: _Optional[str] = ..., step: _Optional[int] = ..., value: _Optional[float] = ..., announced: bool = ...) -> None: ...

class Scalars(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedCompositeFieldContainer[Scalar]
    def __init__(self, values: _Optional[_Iterable[_Union[Scalar, _Mapping]]] = ...) -> None: ...

class Counter(_message.Message):
    __slots__ = ("name", "reason", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    reason: str
    value: float
    def __init__(self, name: _Optional[str] = ..., reason: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...

class AgentStats(_message.Message):
    __slots__ = ("counters",)
    COUNTERS_FIELD_NUMBER: _ClassVar[int]
    counters: _containers.RepeatedCompositeFieldContainer[Counter]
    def __init__(self, counters: _Optional[_Iterable[_Union[Counter, _Mapping]]] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("finished_step", "any_finished")
    FINISHED_STEP_FIELD_NUMBER: _ClassVar[int]
    ANY_FINISHED_FIELD_NUMBER: _ClassVar[int]
    finished_step: int
    any_finished: bool
    def __init__(self, finished_step: _Optional[int] = ..., any_finished: bool = ...) -> None: ...

class Bye(_message.Message):
    __slots__ = ("last_step", "any_finished")
    LAST_STEP_FIELD_NUMBER: _ClassVar[int]
    ANY_FINISHED_FIELD_NUMBER: _ClassVar[int]
    last_step: int
    any_finished: bool
    def __init__(self, last_step: _Optional[int] = ..., any_finished: bool = ...) -> None: ...

class EventTable(_message.Message):
    __slots__ = ("kind", "ids", "columns")
    KIND_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    kind: str
    ids: Tensor
    columns: _containers.RepeatedCompositeFieldContainer[Column]
    def __init__(self, kind: _Optional[str] = ..., ids: _Optional[_Union[Tensor, _Mapping]] = ..., columns: _Optional[_Iterable[_Union[Column, _Mapping]]] = ...) -> None: ...

class EventBatch(_message.Message):
    __slots__ = ("run", "attempt", "stream", "rank", "seq", "step", "rule", "time_ms", "offered", "table")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    OFFERED_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    run: str
    attempt: int
    stream: str
    rank: int
    seq: int
    step: int
    rule: WindowRule
    time_ms: int
    offered: int
    table: EventTable
    def __init__(self, run: _Optional[str] = ..., attempt: _Optional[int] = ..., stream: _Optional[str] = ..., rank: _Optional[int] = ..., seq: _Optional[int] = ..., step: _Optional[int] = ..., rule: _Optional[_Union[WindowRule, _Mapping]] = ..., time_ms: _Optional[int] = ..., offered: _Optional[int] = ..., table: _Optional[_Union[EventTable, _Mapping]] = ...) -> None: ...

class Pane(_message.Message):
    __slots__ = ("kind", "index")
    KIND_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    kind: PaneKind
    index: int
    def __init__(self, kind: _Optional[_Union[PaneKind, str]] = ..., index: _Optional[int] = ...) -> None: ...

class WindowPane(_message.Message):
    __slots__ = ("run", "attempt", "unit", "window", "pane", "first_step", "last_step", "expected", "present", "clock_ms", "units", "part", "parts", "rule", "sampling", "rows_total", "row_keys", "row_inclusion", "row_uniform", "tap", "tokens", "scalars", "agent", "events", "references")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    PANE_FIELD_NUMBER: _ClassVar[int]
    FIRST_STEP_FIELD_NUMBER: _ClassVar[int]
    LAST_STEP_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    PRESENT_FIELD_NUMBER: _ClassVar[int]
    CLOCK_MS_FIELD_NUMBER: _ClassVar[int]
    UNITS_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    ROWS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    ROW_KEYS_FIELD_NUMBER: _ClassVar[int]
    ROW_INCLUSION_FIELD_NUMBER: _ClassVar[int]
    ROW_UNIFORM_FIELD_NUMBER: _ClassVar[int]
    TAP_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    SCALARS_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    REFERENCES_FIELD_NUMBER: _ClassVar[int]
    run: str
    attempt: int
    unit: str
    window: int
    pane: Pane
    first_step: int
    last_step: int
    expected: int
    present: int
    clock_ms: int
    units: _containers.RepeatedScalarFieldContainer[str]
    part: int
    parts: int
    rule: WindowRule
    sampling: Sampling
    rows_total: int
    row_keys: Tensor
    row_inclusion: Tensor
    row_uniform: Tensor
    tap: TapSketch
    tokens: Tokens
    scalars: ScalarWindow
    agent: AgentStats
    events: EventTable
    references: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, run: _Optional[str] = ..., attempt: _Optional[int] = ..., unit: _Optional[str] = ..., window: _Optional[int] = ..., pane: _Optional[_Union[Pane, _Mapping]] = ..., first_step: _Optional[int] = ..., last_step: _Optional[int] = ..., expected: _Optional[int] = ..., present: _Optional[int] = ..., clock_ms: _Optional[int] = ..., units: _Optional[_Iterable[str]] = ..., part: _Optional[int] = ..., parts: _Optional[int] = ..., rule: _Optional[_Union[WindowRule, _Mapping]] = ..., sampling: _Optional[_Union[Sampling, _Mapping]] = ..., rows_total: _Optional[int] = ..., row_keys: _Optional[_Union[Tensor, _Mapping]] = ..., row_inclusion: _Optional[_Union[Tensor, _Mapping]] = ..., row_uniform: _Optional[_Union[Tensor, _Mapping]] = ..., tap: _Optional[_Union[TapSketch, _Mapping]] = ..., tokens: _Optional[_Union[Tokens, _Mapping]] = ..., scalars: _Optional[_Union[ScalarWindow, _Mapping]] = ..., agent: _Optional[_Union[AgentStats, _Mapping]] = ..., events: _Optional[_Union[EventTable, _Mapping]] = ..., references: _Optional[_Iterable[int]] = ...) -> None: ...

class ScalarSum(_message.Message):
    __slots__ = ("name", "n", "total", "square", "minimum", "maximum", "nonfinite", "announced")
    NAME_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    SQUARE_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_FIELD_NUMBER: _ClassVar[int]
    NONFINITE_FIELD_NUMBER: _ClassVar[int]
    ANNOUNCED_FIELD_NUMBER: _ClassVar[int]
    name: str
    n: float
    total: float
    square: float
    minimum: float
    maximum: float
    nonfinite: int
    announced: bool
    def __init__(self, name: _Optional[str] = ..., n: _Optional[float] = ..., total: _Optional[float] = ..., square: _Optional[float] = ..., minimum: _Optional[float] = ..., maximum: _Optional[float] = ..., nonfinite: _Optional[int] = ..., announced: bool = ...) -> None: ...

class ScalarWindow(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedCompositeFieldContainer[ScalarSum]
    def __init__(self, values: _Optional[_Iterable[_Union[ScalarSum, _Mapping]]] = ...) -> None: ...

class Label(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class Parameter(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class Result(_message.Message):
    __slots__ = ("run", "attempt", "window", "pane", "first_step", "last_step", "clock_ms", "metric", "labels", "value", "unit", "n", "null_mean", "null_sd", "ceiling", "saturated", "band_low", "band_high", "completeness", "estimator", "estimator_version", "reference_version", "undefined", "parameters")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    PANE_FIELD_NUMBER: _ClassVar[int]
    FIRST_STEP_FIELD_NUMBER: _ClassVar[int]
    LAST_STEP_FIELD_NUMBER: _ClassVar[int]
    CLOCK_MS_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    NULL_MEAN_FIELD_NUMBER: _ClassVar[int]
    NULL_SD_FIELD_NUMBER: _ClassVar[int]
    CEILING_FIELD_NUMBER: _ClassVar[int]
    SATURATED_FIELD_NUMBER: _ClassVar[int]
    BAND_LOW_FIELD_NUMBER: _ClassVar[int]
    BAND_HIGH_FIELD_NUMBER: _ClassVar[int]
    COMPLETENESS_FIELD_NUMBER: _ClassVar[int]
    ESTIMATOR_FIELD_NUMBER: _ClassVar[int]
    ESTIMATOR_VERSION_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_VERSION_FIELD_NUMBER: _ClassVar[int]
    UNDEFINED_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    run: str
    attempt: int
    window: int
    pane: Pane
    first_step: int
    last_step: int
    clock_ms: int
    metric: str
    labels: _containers.RepeatedCompositeFieldContainer[Label]
    value: float
    unit: str
    n: int
    null_mean: float
    null_sd: float
    ceiling: float
    saturated: bool
    band_low: float
    band_high: float
    completeness: float
    estimator: str
    estimator_version: int
    reference_version: str
    undefined: str
    parameters: _containers.RepeatedCompositeFieldContainer[Parameter]
    def __init__(self, run: _Optional[str] = ..., attempt: _Optional[int] = ..., window: _Optional[int] = ..., pane: _Optional[_Union[Pane, _Mapping]] = ..., first_step: _Optional[int] = ..., last_step: _Optional[int] = ..., clock_ms: _Optional[int] = ..., metric: _Optional[str] = ..., labels: _Optional[_Iterable[_Union[Label, _Mapping]]] = ..., value: _Optional[float] = ..., unit: _Optional[str] = ..., n: _Optional[int] = ..., null_mean: _Optional[float] = ..., null_sd: _Optional[float] = ..., ceiling: _Optional[float] = ..., saturated: bool = ..., band_low: _Optional[float] = ..., band_high: _Optional[float] = ..., completeness: _Optional[float] = ..., estimator: _Optional[str] = ..., estimator_version: _Optional[int] = ..., reference_version: _Optional[str] = ..., undefined: _Optional[str] = ..., parameters: _Optional[_Iterable[_Union[Parameter, _Mapping]]] = ...) -> None: ...

class Evidence(_message.Message):
    __slots__ = ("labels", "value", "score")
    LABELS_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    labels: _containers.RepeatedCompositeFieldContainer[Label]
    value: float
    score: float
    def __init__(self, labels: _Optional[_Iterable[_Union[Label, _Mapping]]] = ..., value: _Optional[float] = ..., score: _Optional[float] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("run", "attempt", "id", "detector", "severity", "metric", "window", "since_step", "detected_step", "clock_ms", "pattern", "sentence", "evidence")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    DETECTOR_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    SINCE_STEP_FIELD_NUMBER: _ClassVar[int]
    DETECTED_STEP_FIELD_NUMBER: _ClassVar[int]
    CLOCK_MS_FIELD_NUMBER: _ClassVar[int]
    PATTERN_FIELD_NUMBER: _ClassVar[int]
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    run: str
    attempt: int
    id: str
    detector: str
    severity: str
    metric: str
    window: int
    since_step: int
    detected_step: int
    clock_ms: int
    pattern: str
    sentence: str
    evidence: _containers.RepeatedCompositeFieldContainer[Evidence]
    def __init__(self, run: _Optional[str] = ..., attempt: _Optional[int] = ..., id: _Optional[str] = ..., detector: _Optional[str] = ..., severity: _Optional[str] = ..., metric: _Optional[str] = ..., window: _Optional[int] = ..., since_step: _Optional[int] = ..., detected_step: _Optional[int] = ..., clock_ms: _Optional[int] = ..., pattern: _Optional[str] = ..., sentence: _Optional[str] = ..., evidence: _Optional[_Iterable[_Union[Evidence, _Mapping]]] = ...) -> None: ...

class DeadLetter(_message.Message):
    __slots__ = ("topic", "partition", "offset", "reason", "head", "length", "clock_ms")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    CLOCK_MS_FIELD_NUMBER: _ClassVar[int]
    topic: str
    partition: int
    offset: int
    reason: str
    head: bytes
    length: int
    clock_ms: int
    def __init__(self, topic: _Optional[str] = ..., partition: _Optional[int] = ..., offset: _Optional[int] = ..., reason: _Optional[str] = ..., head: _Optional[bytes] = ..., length: _Optional[int] = ..., clock_ms: _Optional[int] = ...) -> None: ...

class StageState(_message.Message):
    __slots__ = ("stage", "key", "version", "payload", "offset", "part")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    stage: str
    key: str
    version: int
    payload: bytes
    offset: int
    part: str
    def __init__(self, stage: _Optional[str] = ..., key: _Optional[str] = ..., version: _Optional[int] = ..., payload: _Optional[bytes] = ..., offset: _Optional[int] = ..., part: _Optional[str] = ...) -> None: ...

class Command(_message.Message):
    __slots__ = ("run", "attempt", "id", "nonce", "action", "value", "low", "high", "issued_ms", "expires_ms", "rule", "reason", "first_step", "last_step", "if_value")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    ISSUED_MS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_MS_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FIRST_STEP_FIELD_NUMBER: _ClassVar[int]
    LAST_STEP_FIELD_NUMBER: _ClassVar[int]
    IF_VALUE_FIELD_NUMBER: _ClassVar[int]
    run: str
    attempt: int
    id: str
    nonce: bytes
    action: str
    value: float
    low: float
    high: float
    issued_ms: int
    expires_ms: int
    rule: str
    reason: str
    first_step: int
    last_step: int
    if_value: float
    def __init__(self, run: _Optional[str] = ..., attempt: _Optional[int] = ..., id: _Optional[str] = ..., nonce: _Optional[bytes] = ..., action: _Optional[str] = ..., value: _Optional[float] = ..., low: _Optional[float] = ..., high: _Optional[float] = ..., issued_ms: _Optional[int] = ..., expires_ms: _Optional[int] = ..., rule: _Optional[str] = ..., reason: _Optional[str] = ..., first_step: _Optional[int] = ..., last_step: _Optional[int] = ..., if_value: _Optional[float] = ...) -> None: ...

class SignedCommand(_message.Message):
    __slots__ = ("command", "signature", "key_id")
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    command: bytes
    signature: bytes
    key_id: str
    def __init__(self, command: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., key_id: _Optional[str] = ...) -> None: ...

class AuditEntry(_message.Message):
    __slots__ = ("run", "attempt", "id", "stage", "actor", "mode", "action", "value", "rule", "reason", "rank", "step", "window", "clock_ms", "details")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    CLOCK_MS_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    run: str
    attempt: int
    id: str
    stage: str
    actor: str
    mode: str
    action: str
    value: float
    rule: str
    reason: str
    rank: int
    step: int
    window: int
    clock_ms: int
    details: _containers.RepeatedCompositeFieldContainer[Parameter]
    def __init__(self, run: _Optional[str] = ..., attempt: _Optional[int] = ..., id: _Optional[str] = ..., stage: _Optional[str] = ..., actor: _Optional[str] = ..., mode: _Optional[str] = ..., action: _Optional[str] = ..., value: _Optional[float] = ..., rule: _Optional[str] = ..., reason: _Optional[str] = ..., rank: _Optional[int] = ..., step: _Optional[int] = ..., window: _Optional[int] = ..., clock_ms: _Optional[int] = ..., details: _Optional[_Iterable[_Union[Parameter, _Mapping]]] = ...) -> None: ...

class Reference(_message.Message):
    __slots__ = ("sampling", "scoring_tap", "width", "rows")
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    SCORING_TAP_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    sampling: Sampling
    scoring_tap: str
    width: int
    rows: Tensor
    def __init__(self, sampling: _Optional[_Union[Sampling, _Mapping]] = ..., scoring_tap: _Optional[str] = ..., width: _Optional[int] = ..., rows: _Optional[_Union[Tensor, _Mapping]] = ...) -> None: ...

class AgentConfig(_message.Message):
    __slots__ = ("run", "version", "from_step", "created_ms", "reference", "taps_off")
    RUN_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FROM_STEP_FIELD_NUMBER: _ClassVar[int]
    CREATED_MS_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    TAPS_OFF_FIELD_NUMBER: _ClassVar[int]
    run: str
    version: int
    from_step: int
    created_ms: int
    reference: Reference
    taps_off: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, run: _Optional[str] = ..., version: _Optional[int] = ..., from_step: _Optional[int] = ..., created_ms: _Optional[int] = ..., reference: _Optional[_Union[Reference, _Mapping]] = ..., taps_off: _Optional[_Iterable[str]] = ...) -> None: ...

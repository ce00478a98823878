"""An accelerator in pure Python, "emu:0", that counts what a program asks of it.

A tensor of the device has a storage of its own kind, whose memory is the CPU's. One
function, `run`, gets each of torch's operations, checks what a GPU would refuse, and
computes on CPU tensors over the same memory. Memory holds NaN until it is written.

Streams and events say which work comes after which; what is used too early raises.

What this cannot show: copies and kernels that do overlap, how torch reuses memory, products
that are rounded to TF32, libraries inside a graph, and how long anything takes. Torch
cannot forget a device again, so only a process of its own may import this module: see
tests/test_emulated.py.
"""

import sys
import threading
from collections import Counter
from contextlib import contextmanager
from functools import cache, partial
from typing import ClassVar

import torch
from torch import library
from torch.utils import backend_registration

KIND = "emu"
_CPU = torch.device("cpu")
_CPU_KEYS = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)
_SET = torch.ops.aten.set_.source_Storage_storage_offset
_COPY = torch.ops.aten.copy_.default
_VIEWS = {"as_strided", "view", "_reshape_alias", "unfold"}
_EMPTY = {"empty", "empty_strided"}
# Operations that take an index on the CPU, and copy it.
_TAKE_INDEX = {"index", "index_put_", "_index_put_impl_", "_unsafe_index"}
# Operations that wait for the device, because the host needs their result.
_WAIT = {
    *("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero"),
    *("_linalg_check_errors", "_unique2"),
}
_PRODUCTS = {"mm", "bmm", "mv", "dot"}
_MEMORY = 2**34


class Event:
    """The work of a stream up to a time, and what that came after."""

    def __init__(self, stream):
        self.times = {**stream.times, stream: stream.time}

    def synchronize(self):
        accelerator.note("wait for an event")
        accelerator.check_locked_memory(self.times)


class Stream:
    """A queue of the device, whose work is not before or after that of another queue.

    Attributes
    ----------
    time : int
        How many operations it was told.
    times : dict of Stream to int
        Up to which time the work of other streams comes before what follows.
    copies : list of (int, Tensor, bytes)
        Copies from locked memory that may not have been made yet: their time, the memory,
        and what was in it.
    """

    def __init__(self, device=None):
        self.time, self.times, self.copies = 0, {}, []

    def record_event(self):
        return Event(self)

    def wait_event(self, event):
        for stream, time in event.times.items():
            self.times[stream] = max(self.times.get(stream, 0), time)

    def wait_stream(self, other):
        self.wait_event(Event(other))

    def synchronize(self):
        accelerator.note("sync")
        accelerator.check_locked_memory(Event(self).times)

    def comes_after(self, stream, time):
        """Whether what follows here comes after the work of a stream up to a time."""
        return stream is self or self.times.get(stream, 0) >= time


class CUDAGraph:
    """A recorded list of operations, by the interface of ``torch.cuda.CUDAGraph``."""

    def __init__(self):
        self.calls, self.is_valid = [], True

    def capture_begin(self, pool=None, capture_error_mode="global"):
        if accelerator.stream_of_thread is accelerator.main_stream:
            raise RuntimeError("a graph cannot be captured on the default stream")
        accelerator.local.graph = self
        accelerator.note("capture")

    def capture_end(self):
        accelerator.local.graph = None
        if not self.is_valid:
            raise RuntimeError("operation failed due to a previous error during capture")

    def replay(self):
        accelerator.note("launch")
        for op, args, kwargs, results in self.calls:
            written = [x for x in results if x is not None]
            accelerator.use((args, kwargs), [*_written(op, args, kwargs), *written])
            found = op(*_on_host(args), **_on_host(kwargs))
            for result, value in zip(results, _tensors(found), strict=True):
                if result is not None:
                    host(result).copy_(value)


class Accelerator:
    """The device module, ``torch.emu``, with counts of what it was asked.

    Attributes
    ----------
    counts : Counter
        Number of each kind of event: "launch" of a kernel or a graph; "h2d" and "d2h",
        copies that wait; "h2d pinned", copies that do not; "h2d ahead", copies that need
        not wait, but from memory that is pageable or has gaps; "copy beside other work",
        a copy that does not come after all of it; "sync"; "wait for an event"; "capture".
    copies : list of (str, int)
        Kind and bytes of each copy.
    places : Counter
        The same by kind and line of skae, if `traces`.
    free, reserved : int
        Bytes of free memory, and of what torch keeps for later tensors.
    largest_pinned : int
        Bytes of the largest block of locked memory on the host.
    rounds_products : bool
        Whether float32 factors of products are rounded to the ten digits of TF32.
    has_float64 : bool
        Whether the device takes numbers in double precision.
    """

    Stream, CUDAGraph, Event = Stream, CUDAGraph, Event

    def __init__(self):
        self.local = threading.local()
        self.main_stream = Stream()
        self.streams = {self.main_stream}
        self.traces, self.has_float64, self.rounds_products = False, True, False
        self.free, self.reserved = _MEMORY, 0
        self.reset()

    def reset(self):
        """Forget all counts."""
        self.counts, self.places, self.largest_pinned = Counter(), Counter(), 0
        self.copies = []

    def note(self, event):
        """Count an event, and the line of skae that it comes from."""
        self.counts[event] += 1
        if self.traces:
            frame = sys._getframe(1)
            while frame and "/skae/" not in frame.f_code.co_filename:
                frame = frame.f_back
            file = frame.f_code.co_filename.split("/skae/")[-1] if frame else "?"
            self.places[event, f"{file}:{frame.f_lineno if frame else 0}"] += 1

    @property
    def graph(self):
        """The graph that this thread captures."""
        return getattr(self.local, "graph", None)

    @property
    def stream_of_thread(self):
        """The stream that this thread uses."""
        return getattr(self.local, "stream", self.main_stream)

    def use(self, read, written):
        """Note an operation of this thread's stream, which must come after its inputs.

        It must come after the last writes to all of its tensors, and after all reads of
        those that it writes to.
        """
        own = self.stream_of_thread
        own.time += 1
        uses = [_uses(x) for x in _tensors(read) if x.device.type == KIND]
        overwritten = [_uses(x) for x in written]
        for use in (*uses, *overwritten):
            self._must_follow(use.writes)
            use.reads[own] = own.time
        for use in overwritten:
            use.reads.pop(own, None)
            self._must_follow(use.reads)
            use.reads, use.writes = {}, {own: own.time}

    def _must_follow(self, times):
        """Raise if this thread's stream does not wait for some work."""
        own = self.stream_of_thread
        if not all(own.comes_after(*work) for work in times.items()):
            raise RuntimeError("a stream does not wait for another one")

    def check_locked_memory(self, times):
        """Raise if memory was overwritten before copies from it, up to some times."""
        made = []
        for stream, last in times.items():
            made += [copy for copy in stream.copies if copy[0] <= last]
            stream.copies = [copy for copy in stream.copies if copy[0] > last]
        if any(memory.numpy().tobytes() != content for _, memory, content in made):
            raise RuntimeError("locked memory is overwritten before its copy")

    def refuse_in_graph(self, what):
        """Raise for what a graph cannot hold, which makes it unusable."""
        if self.graph is not None:
            self.graph.is_valid = False
            raise RuntimeError(f"operation not permitted when stream is capturing: {what}")

    # What torch and its users ask of a device module.

    @contextmanager
    def stream(self, stream):
        before = self.stream_of_thread
        self.streams.add(stream)
        self.local.stream = stream
        try:
            yield
        finally:
            self.local.stream = before

    @contextmanager
    def device(self, device):
        yield

    def current_stream(self, device=None):
        return self.stream_of_thread

    def synchronize(self, device=None):
        self.note("sync")

    def mem_get_info(self, device=None):
        return self.free, _MEMORY

    def memory_reserved(self, device=None):
        return self.reserved

    def memory_allocated(self, device=None):
        return 0

    current_device = memory_allocated

    def device_count(self):
        return 1

    def is_available(self):
        return True

    is_initialized = is_available

    def _is_in_bad_fork(self):
        return False

    def get_amp_supported_dtype(self):
        return [torch.bfloat16, torch.float16]

    def manual_seed_all(self, seed):
        self.default_generators[0].manual_seed(seed)

    def get_rng_state_all(self):
        return [generator.get_state() for generator in self.default_generators]


accelerator = Accelerator()
backend_registration._setup_privateuseone_for_python_backend(
    KIND, backend_module=accelerator
)
DEVICE = torch.device(KIND, 0)


class Uses:
    """The last uses of a memory: streams, and their times."""

    def __init__(self):
        self.reads, self.writes = {}, {}


def _uses(x):
    """Return the last uses of the memory of a tensor of the device."""
    storage = x.untyped_storage()
    if not hasattr(storage, "uses"):
        storage.uses = Uses()
    return storage.uses


def host(x):
    """Return a CPU tensor over the memory of a tensor of the device."""
    place = x.storage_offset(), x.shape, x.stride()
    return torch.empty(0, dtype=x.dtype).set_(x.untyped_storage().memory, *place)


def _storage(memory):
    """Make a storage of the device over a storage of the CPU."""
    found = torch._C._construct_storage_from_data_pointer(
        memory.data_ptr(), DEVICE, memory.nbytes()
    )
    found.memory = memory
    return found


def _bind(x, like):
    """Let a tensor of the device have the memory of a CPU tensor."""
    storage = _storage(like.untyped_storage())
    place = like.storage_offset(), like.shape, like.stride()
    _SET.redispatch(_CPU_KEYS, x, storage, *place)
    return x


def _on_device(like):
    """Return a tensor of the device over the memory of a CPU tensor."""
    if like.dtype in (torch.float64, torch.complex128) and not accelerator.has_float64:
        raise TypeError("Cannot convert a tensor to float64, which the device lacks.")
    return _bind(torch._C._acc.create_empty_tensor([0], like.dtype), like)


def _map(function, values):
    """Apply a function to all arguments or results of an operation."""
    if isinstance(values, (list, tuple)):
        return type(values)([_map(function, x) for x in values])
    if isinstance(values, dict):
        return {name: _map(function, x) for name, x in values.items()}
    return function(values)


def _leaves(values):
    """Return all arguments or results of an operation, those in lists too, in order."""
    found, pending = [], [values]
    while pending:
        x = pending.pop()
        if isinstance(x, (list, tuple)):
            pending += reversed(x)
        elif isinstance(x, dict):
            pending += reversed(x.values())
        else:
            found.append(x)
    return found


def _tensors(values):
    """Return the tensors among arguments or results."""
    return [x for x in _leaves(values) if isinstance(x, torch.Tensor)]


def _on_host(values):
    """Replace tensors and names of the device by those of the CPU."""

    def of(x):
        if isinstance(x, torch.Tensor):
            return host(x) if x.device.type == KIND else x
        return _CPU if isinstance(x, torch.device) and x.type == KIND else x

    return _map(of, values)


def _rounded(x):
    """Round float32 numbers to the digits of TF32, as a GPU does before a product."""
    if not isinstance(x, torch.Tensor) or x.dtype != torch.float32:
        return x
    return ((x.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


def _zeros(x):
    """Return zeros in place of integers."""
    is_tensor = isinstance(x, torch.Tensor)
    return torch.zeros_like(x) if is_tensor and x.dtype == torch.int64 else x


def _pairs(given, inside):
    """Pair tensors of the device, or lists of them, with those of the CPU."""
    return zip(given, inside, strict=True) if isinstance(given, list) else [(given, inside)]


def _copy(source, target, non_blocking=False, resize=False):
    """Copy between devices, or on the device."""
    kinds = source.device.type, target.device.type
    if kinds == (KIND, KIND):
        accelerator.note("launch")
    else:
        own, event = (source, "h2d") if kinds[1] == KIND else (target, "d2h")
        is_pinned = getattr(own.untyped_storage(), "is_emulated_pinned", False)
        is_plain = source.is_contiguous() and target.is_contiguous()
        accelerator.refuse_in_graph("copy from or to pageable memory")
        if non_blocking:
            event += " pinned" if is_pinned and is_plain else " ahead"
        accelerator.note(event)
        accelerator.copies.append((event, source.nbytes))
        stream = accelerator.stream_of_thread
        if not non_blocking:
            # The host waits for the copy, and for all that comes before.
            accelerator.check_locked_memory(Event(stream).times)
        elif event == "h2d pinned":
            stream.copies.append((stream.time, own, own.numpy().tobytes()))
            main = accelerator.main_stream
            if not stream.comes_after(main, main.time):
                accelerator.note("copy beside other work")
    source, inside = _on_host((source, target))
    if accelerator.graph is not None:
        accelerator.graph.calls.append((_COPY, (target, source), {}, [None]))
    else:
        (inside.resize_(source.shape) if resize else inside).copy_(source)
    return target


def _check_places(op, name, values):
    """Raise for tensors and generators that a GPU would refuse."""
    elsewhere = [x for x in _tensors(values) if x.device.type != KIND]
    if elsewhere and name in _TAKE_INDEX:
        accelerator.note("h2d")
    # A tensor without axes on the CPU is a number, which goes with the launch.
    elif any(x.dim() > 0 for x in elsewhere):
        raise RuntimeError(f"Expected all tensors to be on the same device, in {op}.")
    for x in _leaves(values):
        if isinstance(x, torch._C.Generator) and x._cdata not in Generator.of_device:
            raise RuntimeError(f"Expected a {KIND!r} device type for generator, in {op}.")


def _asks_for_size(name, args):
    """Whether numbers are written to a mask, whose size the host has to know.

    One number for all places is written without that. To read a mask asks for `nonzero`.
    """
    if name != "_index_put_impl_" or args[2].numel() == 1:
        return False
    return any(x.dtype == torch.bool for x in _tensors(args[1]))


@cache
def _signature(op):
    """Return name, which arguments are numbers as tensors, and which are overwritten."""
    arguments = op._schema.arguments
    takes_tensor = [str(p.type) == "Tensor" for p in arguments]
    written = [
        (i, p.name)
        for i, p in enumerate(arguments)
        if p.alias_info is not None and p.alias_info.is_write
    ]
    return op._schema.name.removeprefix("aten::"), takes_tensor, written


def _written(op, args, kwargs):
    """Return the tensors that an operation overwrites."""
    found = []
    for i, key in _signature(op)[2]:
        found.append(args[i] if i < len(args) else kwargs.get(key))
    return _tensors(found)


def run(op, *args, **kwargs):
    """Run one of torch's operations on the device."""
    name, takes_tensor, overwritten = _signature(op)
    dtype = next((x.dtype for x in args if isinstance(x, torch.Tensor)), None)
    dtype = dtype if dtype is not None and dtype.is_floating_point else None
    # Numbers that torch had made tensors of arrive as numbers.
    args = [
        torch.tensor(x, dtype=dtype) if is_tensor and isinstance(x, (int, float)) else x
        for x, is_tensor in zip(args, takes_tensor, strict=False)
    ]
    if name in _VIEWS or op is _SET:
        return op.redispatch(_CPU_KEYS, *args, **kwargs)
    own = [x for x in _written(op, args, kwargs) if x.device.type == KIND]
    if name in ("_copy_from", "_copy_from_and_resize"):
        own += [args[1]] if args[1].device.type == KIND else []
    accelerator.use((args, kwargs), own)
    if name in ("_copy_from", "_copy_from_and_resize"):
        return _copy(*args, resize=name.endswith("resize"), **kwargs)
    _check_places(op, name, (args, kwargs))
    if name in _WAIT or _asks_for_size(name, args):
        accelerator.refuse_in_graph(name)
        accelerator.note("sync")
    elif name not in _EMPTY and not name.startswith("set_"):
        accelerator.note("launch")

    host_args, host_kwargs = _on_host((args, kwargs))
    written = []
    for i, key in overwritten:
        if i < len(args):
            written += _pairs(args[i], host_args[i])
        elif key in kwargs:
            written += _pairs(kwargs[key], host_kwargs[key])
    graph = accelerator.graph
    before = [(inside, inside.clone()) for _, inside in written if graph is not None]
    if graph is not None:
        # Nothing has been computed yet, so any number may be there as an index.
        kept = {id(inside) for _, inside in written}
        host_args = _map(lambda x: x if id(x) in kept else _zeros(x), host_args)
    if accelerator.rounds_products and name in _PRODUCTS:
        host_args = _map(_rounded, host_args)
    found = op(*host_args, **host_kwargs)
    if name in _EMPTY and found.is_floating_point():
        found.fill_(torch.nan)
    for given, inside in written:
        is_moved = given.untyped_storage().data_ptr() != inside.untyped_storage().data_ptr()
        if is_moved or given.shape != inside.shape:  # an `out` of another size
            _bind(given, inside)
    results, of = [], {id(inside): given for given, inside in written}

    def give(x):
        if not isinstance(x, torch.Tensor):
            return x
        results.append(None if id(x) in of else _on_device(x))
        return of[id(x)] if results[-1] is None else results[-1]

    result = _map(give, found)
    stream = accelerator.stream_of_thread
    for x in results:
        if x is not None:
            # Before it was this stream's, too.
            _uses(x).writes[stream] = stream.time
    if graph is not None:
        # A capture computes nothing.
        for inside, value in before:
            if inside.shape == value.shape:
                inside.copy_(value)
            else:  # an `out` of another size
                inside.fill_(torch.nan)
        for x in results:
            if x is not None and x.is_floating_point():
                host(x).fill_(torch.nan)
        if name not in _EMPTY:
            graph.calls.append((op, args, kwargs, results))
    return result


def _convolution_backward(grad, x, weight, *args):
    """Run the gradient of a convolution, whose bias has a value for each output."""
    return run(
        torch.ops.aten.convolution_backward.default, grad, x, weight, [grad.shape[1]], *args
    )


# What is replaced in torch; a library would be undone if it was not kept.
_KEPT = [
    library.Library("_", "IMPL"),
    torch.UntypedStorage.clone,
    torch.Generator,
    torch.empty,
]
_KEPT[0].fallback(run, "PrivateUse1")
_KEPT[0].fallback(library.fallthrough_kernel, "AutocastPrivateUse1")
# The two operations whose general form asks for one of the device.
_KEPT.append(library.Library("aten", "IMPL"))
for _name, _function in (
    ("convolution_overrideable", partial(run, torch.ops.aten.convolution.default)),
    ("convolution_backward_overrideable", _convolution_backward),
):
    _KEPT[-1].impl(_name, _function, "PrivateUse1")


def _clone(self):
    """Copy a storage, as `copy.deepcopy` of a tensor does."""
    if self.device.type != KIND:
        return _KEPT[1](self)
    accelerator.note("launch")
    return _storage(self.memory.clone())


class _OfAnyDevice(type(torch.Generator)):
    """The class of `Generator`, of which those of the CPU are instances, too."""

    def __instancecheck__(cls, x):
        return isinstance(x, torch._C.Generator)


class Generator(torch.Generator, metaclass=_OfAnyDevice):
    """A source of random numbers, of the CPU or the device; those of both are equal."""

    of_device: ClassVar[dict[int, torch.Generator]] = {}

    def __new__(cls, device="cpu"):
        if torch.device(device).type != KIND:
            return _KEPT[2](device)
        own = super().__new__(cls)
        cls.of_device[own._cdata] = own
        return own

    def __init__(self, device="cpu"):
        pass

    @property
    def device(self):
        return DEVICE


def _empty(*size, pin_memory=False, **kwargs):
    """Make a tensor; torch has no way to lock memory for such a device."""
    found = _KEPT[3](*size, **kwargs)
    if pin_memory:
        found.untyped_storage().is_emulated_pinned = True
        accelerator.largest_pinned = max(accelerator.largest_pinned, found.nbytes)
    return found


torch.UntypedStorage.clone = _clone
torch.Generator = Generator
torch.empty = _empty
accelerator.default_generators = [Generator(KIND)]

"""A disk of this process that loses power: a loop device over a file that this process serves through FUSE.

The kernel's ext4 writes to it as to any disk with a volatile write cache. The disk keeps what was written and not flushed apart.
When power is cut, every later request fails, and what remains is everything that was flushed and any part of the rest: nothing,
all, the oldest writes, or any sectors of any writes, since a disk writes its cache in any order. A write is torn at sectors of 512 bytes,
except the superblock of ext4, which is protected by no journal.
"""

import contextlib
import ctypes
import errno
import os
import struct
import subprocess
import tempfile
import threading
import time

SECTOR = 512
SUPERBLOCK_END = 4096
REQUEST_MAX = 2 << 20
WRITE_MAX = 1 << 20
END_S = 30
MODES = ["none", "all", "oldest", "any"]

# Of linux/fuse.h.
FORGET, GETATTR, SETATTR, OPEN, READ, WRITE, STATFS, RELEASE = 2, 3, 4, 14, 15, 16, 17, 18
FSYNC, FLUSH, INIT, ACCESS, INTERRUPT, DESTROY, BATCH_FORGET = 20, 25, 26, 34, 36, 38, 42
DIRECT_IO, BIG_WRITES, MAX_PAGES = 1, 1 << 5, 1 << 22


class Unavailable(Exception):
    """This machine has no such disks, and why."""


def run(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise Unavailable(f"{command[0]} is missing") from error
    if done.returncode:
        raise OSError(f"{command[0]}: {' '.join(done.stderr.split()) or done.stdout.strip()}")
    return done.stdout.strip()


def format_ext4(size, block=4096):
    """The image of an empty file system."""
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(size)
        run("mkfs.ext4", "-q", "-F", "-b", str(block), "-E", "lazy_itable_init=0,lazy_journal_init=0", file.name)
        return bytearray(file.read())


class Disk:
    """Serves an image until power is cut, by itself at write number `cut_at`. One that does not flush is the control."""

    def __init__(self, image, cut_at=None, flushes=True):
        self.image = bytearray(image)
        self.flushed = bytearray(image)
        self.unflushed = []
        self.cut_at = cut_at
        self.flushes = flushes
        self.writes = 0
        self.syncs = 0
        self.is_cut = threading.Event()

    @contextlib.contextmanager
    def attached(self):
        """The path of the block device."""
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="stentor-disk-"))
            file = os.path.join(folder, "disk")
            open(file, "w").close()
            try:
                fuse = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
            except OSError as error:
                raise Unavailable(f"/dev/fuse: {error.strerror}") from error
            stack.callback(os.close, fuse)
            libc = ctypes.CDLL(None, use_errno=True)
            options = f"fd={fuse},rootmode=100000,user_id=0,group_id=0"
            if libc.mount(b"stentor-disk", file.encode(), b"fuse", 0, options.encode()):
                raise Unavailable(f"mount of type fuse: {os.strerror(ctypes.get_errno())}")
            thread = threading.Thread(target=self._serve, args=(fuse,), daemon=True)
            thread.start()
            stack.callback(thread.join)
            stack.callback(libc.umount2, file.encode(), 2)
            try:
                device = run("losetup", "--find", "--show", file)
            except OSError as error:
                raise Unavailable(str(error)) from error
            stack.callback(detach, device)
            yield device

    def cut(self):
        self.is_cut.set()

    def after_cut(self, rng, mode):
        """An image that the power cut may have left."""
        image = bytearray(self.flushed)
        sectors = [sector for offset, data in self.unflushed for sector in split(offset, data)]
        if mode == "oldest":
            sectors = sectors[: rng.randrange(len(sectors) + 1)]
        kept = {"none": 0, "all": 1, "oldest": 1, "any": rng.random()}[mode]
        for offset, data in sectors:
            if rng.random() < kept:
                image[offset : offset + len(data)] = data
        return image

    def _serve(self, fuse):
        while True:
            try:
                request = os.read(fuse, REQUEST_MAX)
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return
                # An interrupted request, or one that was taken back.
                if error.errno in (errno.EINTR, errno.ENOENT, errno.EAGAIN):
                    continue
                if error.errno == errno.EPERM:
                    time.sleep(0.001)
                    continue
                raise
            length, code, unique = struct.unpack_from("<IIQ", request)
            failure, answer = self._answer(code, memoryview(request)[40:length])
            if failure is not None:
                # A request of a process that was killed may have been taken back.
                with contextlib.suppress(FileNotFoundError):
                    os.write(fuse, struct.pack("<IiQ", 16 + len(answer), -failure, unique) + answer)

    def _answer(self, code, body):
        """An error number and bytes, or None if there is no answer."""
        if code in (FORGET, INTERRUPT, BATCH_FORGET):
            return None, b""
        if code == INIT:
            flags = BIG_WRITES | MAX_PAGES
            return 0, struct.pack("<IIIIHHIIHHII6I", 7, 31, 0, flags, 16, 12, WRITE_MAX, 1, WRITE_MAX // 4096, 0, 0, 0, *[0] * 6)
        if code in (GETATTR, SETATTR):
            size = len(self.image)
            times = [0] * 6
            attributes = struct.pack("<6Q10I", 1, size, size // 512, 0, 0, 0, *times[:3], 0o100600, 1, 0, 0, 0, 4096, 0)
            return 0, struct.pack("<QII", 3600, 0, 0) + attributes
        if code == OPEN:
            return 0, struct.pack("<QIi", 1, DIRECT_IO, 0)
        if code in (RELEASE, FLUSH, ACCESS, DESTROY):
            return 0, b""
        if code == READ and not self.is_cut.is_set():
            _, offset, size = struct.unpack_from("<QQI", body)
            return 0, bytes(self.image[offset : offset + size])
        if code == WRITE and not self.is_cut.is_set():
            _, offset, size = struct.unpack_from("<QQI", body)
            data = bytes(body[40 : 40 + size])
            self.writes += 1
            self.unflushed.append((offset, data))
            if self.writes == self.cut_at:
                self.cut()
            else:
                self.image[offset : offset + size] = data
                return 0, struct.pack("<II", size, 0)
        if code == FSYNC and not self.is_cut.is_set():
            self.syncs += 1
            if self.flushes:
                for offset, data in self.unflushed:
                    self.flushed[offset : offset + len(data)] = data
                self.unflushed.clear()
            return 0, b""
        return errno.EIO if self.is_cut.is_set() else errno.ENOSYS, b""


def split(offset, data):
    """The parts of a write that are written as a whole, each with its offset."""
    at = 0
    while at < len(data):
        size = max(SUPERBLOCK_END - offset - at, SECTOR)
        yield offset + at, data[at : at + size]
        at += size


def detach(device):
    """Detaches a loop device; its file is closed when this returns."""
    subprocess.run(["losetup", "--detach", device], capture_output=True)
    repeat(lambda: subprocess.run(["losetup", device], capture_output=True).returncode != 0, f"{device} is attached")


def repeat(attempt, failure):
    deadline = time.monotonic() + END_S
    while not attempt():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{failure} after {END_S} s")
        time.sleep(0.005)


@contextlib.contextmanager
def mounted(device):
    """The folder at which a file system is mounted. Nothing of it is in the page cache before."""
    with tempfile.TemporaryDirectory(prefix="stentor-mount-") as folder:
        run("mount", "-t", "ext4", device, folder)
        try:
            yield folder
        finally:
            # A process that was killed may not have ended yet.
            repeat(lambda: subprocess.run(["umount", folder], capture_output=True).returncode == 0, f"{folder} is mounted")

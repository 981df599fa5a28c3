"""The SYN filter: a listening socket takes no new connection and loses none that it has.

Closing a listening socket, or taking its worker away, resets connections whose handshake
has begun or that wait in the accept queue. A classic BPF program on the socket instead
drops the segments that open connections, and lets everything else in, so that handshakes
complete and a worker can accept until the queue is empty. A client whose SYN was dropped
repeats it a second later and is then refused, or answered by who listens there next.

Source: tcp_filter() in net/ipv4/tcp_ipv4.c hands the program a segment from its TCP
header on; socket(7) SO_ATTACH_FILTER; RFC 9293 section 3.1 for the flags in byte 13.
"""

from __future__ import annotations

import ctypes
import socket
import struct

SO_ATTACH_FILTER = 26  # asm-generic/socket.h

_INSTRUCTION = struct.Struct("=HBBI")  # struct sock_filter: code, jt, jf, k
assert _INSTRUCTION.size == 8
_PROGRAM_HEAD = struct.Struct("@HP")  # struct sock_fprog: number of instructions, their address

_LOAD_BYTE, _AND, _JUMP_IF_EQUAL, _RETURN = 0x30, 0x54, 0x15, 0x06  # linux/bpf_common.h
_FLAGS_BYTE = 13
_SYN, _ACK = 0x02, 0x10

_DROP_SYN = b"".join(
    _INSTRUCTION.pack(*instruction)
    for instruction in (
        (_LOAD_BYTE, 0, 0, _FLAGS_BYTE),
        (_AND, 0, 0, _SYN | _ACK),
        (_JUMP_IF_EQUAL, 0, 1, _SYN),
        (_RETURN, 0, 0, 0),  # drop
        (_RETURN, 0, 0, 0xFFFFFFFF),  # take the whole segment
    )
)


def refuse_new(listener: socket.socket) -> None:
    """Let no new connection begin on a listening TCP socket, IPv4 or IPv6.

    Raises:
        OSError: the kernel takes no filter.
    """
    instructions = ctypes.create_string_buffer(_DROP_SYN, len(_DROP_SYN))
    count = len(_DROP_SYN) // _INSTRUCTION.size
    program = _PROGRAM_HEAD.pack(count, ctypes.addressof(instructions))
    listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)

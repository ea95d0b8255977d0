"""System calls forbidden to a confined process, in groups, with their numbers on the supported processors.

The numbers are part of Linux's interface and never change. A call that a processor does not have is None: its newer form is listed
beside it.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Call(NamedTuple):
    """Numbers of one system call."""

    x86_64: int | None
    aarch64: int | None


MACHINE: Final[dict[str, Call]] = {
    "acct": Call(163, 89),
    "add_key": Call(248, 217),
    "bpf": Call(321, 280),
    "chroot": Call(161, 51),
    "delete_module": Call(176, 106),
    "finit_module": Call(313, 273),
    "fsconfig": Call(431, 431),
    "fsmount": Call(432, 432),
    "fsopen": Call(430, 430),
    "fspick": Call(433, 433),
    "init_module": Call(175, 105),
    "io_uring_enter": Call(426, 426),
    "io_uring_register": Call(427, 427),
    "io_uring_setup": Call(425, 425),
    "kcmp": Call(312, 272),
    "kexec_file_load": Call(320, 294),
    "kexec_load": Call(246, 104),
    "keyctl": Call(250, 219),
    "mount": Call(165, 40),
    "mount_setattr": Call(442, 442),
    "move_mount": Call(429, 429),
    "open_by_handle_at": Call(304, 265),
    "open_tree": Call(428, 428),
    "perf_event_open": Call(298, 241),
    "pidfd_getfd": Call(438, 438),
    "pidfd_send_signal": Call(424, 424),
    "pivot_root": Call(155, 41),
    "process_madvise": Call(440, 440),
    "process_mrelease": Call(448, 448),
    "process_vm_readv": Call(310, 270),
    "process_vm_writev": Call(311, 271),
    "ptrace": Call(101, 117),
    "quotactl": Call(179, 60),
    "reboot": Call(169, 142),
    "request_key": Call(249, 218),
    "rt_sigqueueinfo": Call(129, 138),
    "rt_tgsigqueueinfo": Call(297, 240),
    "setdomainname": Call(171, 162),
    "sethostname": Call(170, 161),
    "setns": Call(308, 268),
    "swapoff": Call(168, 225),
    "swapon": Call(167, 224),
    "tkill": Call(200, 130),
    "umount2": Call(166, 39),
    "unshare": Call(272, 97),
    "userfaultfd": Call(323, 282),
}
"""Ways to the machine and to other processes."""
SOCKETS: Final[dict[str, Call]] = {
    "bind": Call(49, 200),
    "connect": Call(42, 203),
    "msgget": Call(68, 186),
    "mq_open": Call(240, 180),
    "semget": Call(64, 190),
    "shmget": Call(29, 194),
    "socket": Call(41, 198),
}
"""Ways to talk to somebody. A pair of sockets inside the process is not among them, nor what is open already."""
PROCESSES: Final[dict[str, Call]] = {
    "execve": Call(59, 221),
    "execveat": Call(322, 281),
    "fork": Call(57, None),
    "setpgid": Call(109, 154),
    "setsid": Call(112, 157),
    "vfork": Call(58, None),
}
"""Ways to have other processes. Threads are told apart from processes in the filter."""
FILES: Final[dict[str, Call]] = {
    "chmod": Call(90, None),
    "chown": Call(92, None),
    "fchmod": Call(91, 52),
    "fchmodat": Call(268, 53),
    "fchmodat2": Call(452, 452),
    "fchown": Call(93, 55),
    "fchownat": Call(260, 54),
    "fremovexattr": Call(199, 16),
    "fsetxattr": Call(190, 7),
    "futimesat": Call(261, None),
    "lchown": Call(94, None),
    "link": Call(86, None),
    "linkat": Call(265, 37),
    "lremovexattr": Call(198, 15),
    "lsetxattr": Call(189, 6),
    "mkdir": Call(83, None),
    "mkdirat": Call(258, 34),
    "mknod": Call(133, None),
    "mknodat": Call(259, 33),
    "removexattr": Call(197, 14),
    "removexattrat": Call(466, 466),
    "rename": Call(82, None),
    "renameat": Call(264, 38),
    "renameat2": Call(316, 276),
    "rmdir": Call(84, None),
    "setxattr": Call(188, 5),
    "setxattrat": Call(463, 463),
    "symlink": Call(88, None),
    "symlinkat": Call(266, 36),
    "truncate": Call(76, 45),
    "unlink": Call(87, None),
    "unlinkat": Call(263, 35),
    "utime": Call(132, None),
    "utimensat": Call(280, 88),
    "utimes": Call(235, None),
}
"""Ways to change files without writing into them."""
CLONE: Final = Call(56, 220)
CLONE3: Final = Call(435, 435)
KILL: Final = Call(62, 129)
TGKILL: Final = Call(234, 131)
PRLIMIT: Final = Call(302, 261)

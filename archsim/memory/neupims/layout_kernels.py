"""Where everything of one NeuPIMs channel lies in its flat int64 state vector, and the latency table.

A channel is one row of an (channels, STATE_SIZE) int64 array; the names below are offsets into the row. Two ranks
of four bank groups of four banks, bank number = rank * 16 + group * 4 + bank. Times are DRAM clocks.
Source of all rules: NeuPIMs simulator (casys-kaist/NeuPIMs f299af3), NewtonSim controller, read and measured.
"""

from __future__ import annotations

BANKS = 32
GROUPS = 8
RANKS = 2
BANK_QUEUE = 128  # entries of one bank queue
QUEUE = 32  # entries of the read, write and PIM transaction queues
PIM_QUEUE = 128  # entries of the PIM command queue
PIM_RING = 256  # holds PIM transactions and PIM commands, in order
RESPONSES = 256  # ring of answers under way
SHARED = 2048  # reads answered together with an equal pending one
FAR = 1 << 60

# ---- request word: kind | block or row or composites << 4 | tag << 31
READ = 0
WRITE = 1
GWRITE = 2
P_HEADER = 3  # tag holds comps << 16 | results
COMPS = 4  # composite: n COMP and one READRES
COMP = 5  # single-buffer mode
READRES = 6

# ---- scalars
REF_PENDING, REF_RANK, SKIP, BUDGET, GWRITING, GWRITE_DONE, GWRITE_TAG = 0, 1, 2, 3, 4, 5, 6
DRAIN, LOCK, LAST_BANK, READS, WRITES, NEXT_SCAN, READS_STUCK = 7, 8, 9, 10, 11, 12, 13
PIM_TAKEN, PIM_MOVED, PIM_ISSUED, QUEUED, NEXT_REFRESH = 14, 15, 16, 17, 18
SLOW_HEAD, SLOW_TAIL, FAST_HEAD, FAST_TAIL, LAST_SLOT, WAKE = 19, 20, 21, 22, 23, 24
PIM_MODE, HEADER_ROW, RESULTS_LEFT, FIRST_COMP, PIM_NEXT, GWRITES_PENDING = (
    25,
    26,
    27,
    28,
    29,
    30,
)  # two counts: GWRITE's column 0, column 8
GWRITES_SEEN, SHARED_N, FAULT = 32, 34, 35  # GWRITES_SEEN: two counts, as GWRITES_PENDING
WRITE_AFTER = 78  # of column 0, of column 8: GWRITEs accepted before the newest write to the address
MIXED_HEAD, MIXED_TAIL = 74, 76  # of column 0, of column 8
GWRITE_AT = 98  # of column 0, of column 8: clock of the last accepted GWRITE
UNDERWAY = 47  # requests accepted and not yet answered
# requests on their way: pushed by the core, entered into the network, arrived at the memory side, taken; NPU, PIM
PUSHED, ENTERED, ARRIVED, TAKEN = 36, 38, 40, 42
NET_ENTERED, NET_ARRIVED, NET_TAKEN = 44, 45, 46
OPEN_BANKS, PIM_OPEN_BANKS, OPEN_SINCE, PIM_OPEN_SINCE, OPEN_TIME, PIM_OPEN_TIME = 48, 50, 52, 54, 56, 58
PIM_BUSY_TIME = 60
ROW_WORK, CAN_READ, CAN_WRITE = 61, 62, 63  # bit masks of banks: head needs ACT or PRE; queued hits
COUNTS = 64  # command counters, see N_* below
N_READ, N_WRITE, N_ACT, N_PRE, N_REF, N_GWRITE, N_GACT, N_COMP, N_READRES, N_PIM_PRE = range(10)
# ---- earliest issue: per channel, rank, bank group, bank
C_READ, C_WRITE, C_COMPS, C_GWRITE, C_PRE, C_GACT, C_READRES, C_PIM_PRE = range(80, 88)
R_READ, R_WRITE, R_ACT, R_GACT, R_REF = 88, 90, 92, 94, 96
G_READ, G_ACT, G_GACT = 100, 108, 116
WINDOW = 124  # last four ACTs of each rank, and where the oldest is
WINDOW_AT = 132
B_READ, B_WRITE, B_PRE, B_ACT, B_GACT, B_PIM_PRE = 136, 168, 200, 232, 264, 296
# ---- banks
ROW, PIM_ROW, COLUMNS, HEAD, LENGTH, READ_HITS, WRITE_HITS = 328, 360, 392, 424, 456, 488, 520
HANDED_AT, HANDED_BEFORE = 552, 554  # per side: cycle of the core's last push, and all pushes before that cycle
LAST_CLOCK = 556
# ---- queues
READ_Q = 584  # (block, tag)
WRITE_Q = READ_Q + 2 * QUEUE
PIM_Q = WRITE_Q + 2 * QUEUE
SLOW = PIM_Q + PIM_RING  # (due, tag): answers a fixed 16 clocks after issue
FAST = SLOW + 2 * RESPONSES  # (due, tag): posted writes, single COMPs
MIXED = FAST + 2 * RESPONSES  # tags waiting for an answer on GWRITE's address, in order of acceptance
SHARE = MIXED + 2 * RESPONSES  # (block, tag)
ENTRIES = SHARE + 2 * SHARED  # a ring per bank of tag << 32 | block << 1 | write
STATE_SIZE = ENTRIES + BANKS * BANK_QUEUE

# ---- latency table
(
    P_SINGLE, P_MIXUP, P_LOOSE, P_TWO_QUEUES, P_REFRESH, P_RCD, P_BURST, P_READ_READ, P_READ_READ_OTHER, P_READ_WRITE,
    P_READ_PRE, P_WRITE_WRITE, P_WRITE_READ_GROUP, P_WRITE_READ_RANK, P_WRITE_PRE, P_RAS, P_RC, P_RRD_L, P_RRD_S, P_FAW,
    P_RP, P_RFC, P_GACT_ACT, P_GACT_RANK, P_GWRITE, P_MIN_COMPS, P_COMPS_GACT, P_READ_DUE, P_WRITE_COMPS, P_ACT_GACT,
    P_TURN, P_RESERVE, P_PRE_STEP, P_UNDERWAY, P_SIZE,
) = range(35)  # fmt: skip

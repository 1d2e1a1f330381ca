"""Where everything lies in the engine's one int64 array `s`: names for offsets, nothing else.

One array instead of many: a compiled function that takes one array costs a few registers per call, one that takes
twenty costs as much as the work it does. Three parts: globals (G_*) at 0, one block per channel (offset `o`),
buffers at the end. Inside a channel block: header (H_*), nodes above the banks, bank records (B_*), candidate
lists, then parts of variable size whose offset stands in the header.
"""

INF = 1 << 60
NO_KEY = 1 << 58
AT = (1 << 31) - 1  # `x & AT`: tells the compiler that an offset is not negative, so that s[x] needs no check
SLOT_BITS = 14
SLOT_MASK = (1 << SLOT_BITS) - 1

# Commands of the request engine, and the classes a command belongs to as the following one.
ACT, PRE, PREA, RD, WR, RDA, WRA, REFAB, REFPB, ACT2, CAS_RD, CAS_WR = range(12)
F_RD, F_WR, F_ACT, F_PRE, F_PREA, F_REFAB, F_REFPB = range(7)
N_COMMANDS = 12
CLOSED, OPENING = -1, -2  # bank states; a row number means open

# A packed location: column, row, flat bank, channel, write flag.
LOC_ROW, LOC_BANK, LOC_CHANNEL, LOC_WRITE = 12, 44, 54, 62

# Features of a run, as bits of `m` (G_MODE). An entry with constant bits is compiled without the code of the others.
M_DUAL, M_HALF, M_SPLIT, M_DEEP, M_CLOSED, M_ROWHIT = 1, 2, 4, 8, 16, 32
M_TRACE, M_RECORD, M_LIMIT, M_TIMED, M_PACED, M_FAST, M_SKIP, M_STREAK, M_DEAL, M_DUE = (1 << k for k in range(6, 16))
M_ANY = 0xFFC0  # the second line: not decided at compile time
M_EXACT = M_DUAL | M_SPLIT  # the next column command is known; elsewhere a look's own search costs less

# ---- globals
G_MODE, G_CLOSED, G_COMPAT, G_FINAL, G_TIME, G_NEXT, G_CHUNK0, G_CHUNK1 = range(8)
G_CHANNELS, G_STRIDE, G_BANKS, G_N1, G_BANKS_PER_1 = range(8, 13)
G_RLAT, G_WEND, G_WCK_RD, G_WCK_WR, G_DEADLINE, G_ACT_CYCLES = range(13, 19)
G_RCAP, G_WCAP, G_HI, G_LO, G_BUDGET, G_LIMIT = range(19, 25)
G_REF_MODE, G_REF_INTERVAL, G_PRIO_CAP, G_RFC_PB = range(25, 29)
G_USED, G_GOAL_O, G_GOAL_T, G_GOAL_D, G_DRAINED, G_OUTSTANDING, G_END, G_FINISH, G_FORWARDED, G_MERGED = range(29, 39)
G_OUT, G_OUT_N, G_OUT2, G_TRACE_AT, G_TRACE_N, G_TRACE_CAP, G_ADDR_SHIFT, G_FAN2, G_FAN3 = range(39, 48)
G_ERROR, G_FIFO_MASK, G_MINUS_1, G_TWO, G_THREE, G_PRE_ACT, G_ACT_RD, G_HIT_RETRY, G_HIT_PAUSE = range(48, 57)
G_LOOK_AT, G_CREDIT, G_PAUSE, G_PERIOD, G_RUN_END, G_RUN_START, G_STEP = range(57, 64)  # see recall_kernels
G_ROWS = 64  # (N_COMMANDS + 1) first rule of each command in G_TABLE
G_BLOCKED = 79  # a request was refused by a full queue
G_READ_RULES = 77  # number of rules from a read to a read, which come first
G_EXTRA = 80  # (N_COMMANDS + 1) first row of each command in G_XTABLE
G_FROM_T, G_FROM_N, G_FROM_OUT, G_FROM_END, G_FROM_FINISH, G_FROM_OUTSTANDING = range(94, 100)
G_FROM_CHUNK, G_FROM_REF, G_FROM_MERGED, G_FROM = range(100, 104)
MAX_RULES = 480
G_TABLE = 104  # rules: level of the node | follow class << 3 | ticks << 6
G_XTABLE = G_TABLE + MAX_RULES  # rows (kind: 1 sibling / n of window, level, follow class, ticks, window number)
MAX_EXTRA = 40
G_RECALL = G_XTABLE + 5 * MAX_EXTRA
G_SHORT_STEP, G_STEP_TICKS, G_FLIP_MASK, G_FROM_NUMBERS, G_STATE_WORDS = range(G_RECALL, G_RECALL + 5)
G_BUCKETS, G_TOP, G_POOL_END, G_INDEX, G_EDGES_N, G_LATENCIES, G_LATENCIES_N = range(G_RECALL + 5, G_RECALL + 12)
G_FROM_TRACE = G_RECALL + 12
G_SIZE = G_RECALL + 13
G_SIZE += -G_SIZE % 64

REF_NONE, REF_ALL, REF_BANK, REF_BANK_TOGETHER = range(4)

# ---- channel header
# H_CLOCK: clock of the last change that is not settled yet, or -1; H_N: reads, H_N + 1: writes waiting
H_WAKE, H_CLOCK, H_N, H_NW, H_MODE, H_ACTIVE_N, H_ACTIVE_MIN, H_FREE = range(8)
H_PRIO_N, H_PRIO_HEAD, H_NEXT_REF, H_REF_CURSOR, H_REF_PC, H_POLICY_N, H_PENDING, H_PEND_DEADLINE = range(8, 16)
H_WCK, H_CAS, H_CAS_ACTIVE, H_FIFO_N, H_FIFO_HEAD, H_PAIR_END, H_PAIR_CMD, H_PAIR_BANK = range(16, 24)
H_SLOTS, H_ACTIVE, H_PRIO, H_FILTER, H_HIST, H_FIFO, H_NUMBER, H_POLICY_WAKE = range(
    24, 32
)  # offsets, channel number, next policy tick
H_COUNT = 48  # (N_COMMANDS) commands issued
H_HITS, H_MISSES, H_CONFLICTS = 60, 61, 62
H_REF_DUE, H_REF_BANK, H_ORDER, H_FLIPS = 63, 47, 46, 38  # H_FLIPS: changes of the mode
H_OPEN, H_GUARD = 64, 72  # (8) per rank / pseudo channel: banks not closed, sum of active counts
H_SINCE, H_BUSY = 112, 120  # (8) per rank / pseudo channel: since when a row is open; ticks with an open row
H_ALLOWED = 80  # (32) per-bank refresh in step: earliest start per stack
H_LIST_N, H_LIST_MIN = 128, 176  # (N_LISTS) length, and a bound below which nothing of the list can issue
# what may issue at H_WAKE: number of entries of H_DUE (-1: not known), 1 active list + 2 hits, list numbers
H_DUE_N, H_DUE_COLUMN, H_DUE_ROWS, H_DUE = 32, 33, 34, 224
H_STOP = 35  # no command but RD or WR of a waiting hit can issue before this tick
# The next hit: the tick at which it can issue, -1: not known; its key and bank. So too for the activated requests:
# position of the one that can issue at H_ACTIVE_MIN, or -1. Kept with M_EXACT only.
H_HIT_T, H_HIT_KEY, H_HIT_BANK, H_ACTIVE_AT = 36, 37, 39, 40
H_SIZE = 240

# ---- nodes above the banks: NODE + 8 * index, 8 earliest ticks each
MAX_N1, MAX_N2, MAX_N3, MAX_BANKS = 8, 32, 128, 256
NODE = H_SIZE
NODE1 = NODE + 8
NODE2 = NODE1 + 8 * MAX_N1
NODE3 = NODE2 + 8 * MAX_N2
N_NODES = 1 + MAX_N1 + MAX_N2 + MAX_N3
BANK = NODE + 8 * N_NODES + 8
BANK += -BANK % 64
BANK_SIZE = 32
LISTS = BANK + BANK_SIZE * MAX_BANKS
# Candidate lists of a direction: hits, then per rank / pseudo channel k banks to open (1 + 2 k) and to close (2 + 2 k).
D_LISTS = 24
N_LISTS = D_LISTS + 2 * MAX_N1 + 1
L_BANK, L_KEY = 264, 528  # of each entry: earliest tick, and from here bank, key of its oldest other (not for hits)
LIST_SIZE = 864  # not a multiple of 4 KiB: heads of lists must not share a cache set
FIXED = LISTS + N_LISTS * LIST_SIZE
FIXED += -FIXED % 8

# ---- bank record: earliest ticks 0..6, then
B_LAST = 7  # tick of the last read in a run of hits, see fast_kernels
B_PATH = 8  # (5) offsets of the nodes on the path, the bank itself last
B_ROW, B_ACTIVE, B_ACC = 13, 14, 15  # open row; requests of it in the active list; column commands since the last close
B_LIST = 16  # (2, 4) per direction: head slot, tail slot, key of oldest hit, key of oldest other
B_HEAD, B_TAIL, B_HIT, B_MISS = range(4)
B_POS = 24  # (2, 3) place in the candidate list of each direction and class, -1 if absent
B_QUEUED, B_N1 = 30, 31  # row policy has queued a precharge; number of the rank / pseudo channel

# ---- request slot
S_ROW, S_BANK, S_ARRIVAL, S_NEXT, S_PREV, S_ADDR, S_KEY, S_KIND = range(8)  # kind: 1 write, 2 counted, column << 8
SLOT_SIZE = 8
FILTER_SIZE = 1024
ORDER_SIZE = 1024  # banks in order of age, then MAX_BANKS banks that were read, see fast_kernels
TRACE_SIZE = 7  # tick, command, channel << 32 | bank record number, row, column, kind, arrival
ERROR_PRIO_FULL, ERROR_STUCK, ERROR_SLOTS = 1, 2, 3

# ---- remembered states and what follows them, see recall_kernels
N_HASH, N_WORDS, N_EDGE, N_NEXT = range(4)  # a node: number of words, first edge, next node of the bucket; words
NODE_HEAD = 4
E_NEXT, E_NODE, E_REQUESTS, E_TICKS, E_TIMES, E_REFRESH, E_REFRESHES, E_END, E_FINISH, E_OUTSTANDING = range(10)
E_OUTPUTS, E_LATENCIES, E_LOW, E_HIGH, E_READS_ONLY, E_COMMANDS = range(10, 16)
EDGE_HEAD = 16
NUMBERS = 24  # per channel of an edge: counts as from H_COUNT (15), changes of mode, ticks with an open row (8)
BUCKETS, MAX_EDGES, MAX_LATENCIES = 2048, 4096, 1 << 18

/* SPDX-License-Identifier: Apache-2.0
 *
 * Charging sessions at trees of groups, from event to event.
 *
 * Power is counted in whole quanta of 1 mW, time in whole milliseconds, and energy in their
 * products, microjoules: nothing is rounded after the way in, and what a group draws is at every
 * instant the sum of what its sessions draw. Between events every power is constant, but for the
 * last millisecond of a battery that fills up, in which it draws what is left to be had.
 *
 * A call works on some of the trees, allocates what these need, and holds no lock. Disjoint ranges
 * of trees may be worked on at once: what is written for a tree is its own.
 */
#ifndef WATTFILL_SIMULATE_H
#define WATTFILL_SIMULATE_H

#include "wattfill.h"

#define SIM_NEVER INT64_MAX
#define SIM_MOST_PIECES 16

enum { SIM_FIFO, SIM_ROTATE, SIM_MOST };
enum { SIM_WATTFILL, SIM_UNCONTROLLED, SIM_EQUAL, SIM_FIRST_COME };

/* The kernel, which lives in another module. */
typedef struct {
    int64_t (*plant)(wattfill_batch *, int64_t *);
    size_t (*scratch_size)(const wattfill_batch *);
    int64_t (*solve)(const wattfill_batch *, int64_t, int64_t, void *);
} sim_kernel;

/* What is simulated. The caller has checked all of it: groups stand parents first, trees together,
 * and connectors as their groups do; sessions of one tree stand together in `rows`. Optional
 * columns may be NULL. */
typedef struct {
    sim_kernel kernel;
    double per_kw;                                  /* quanta */
    int64_t strategy;
    /* Groups and connectors; tree k has groups trees[k]..trees[k + 1] - 1. */
    int64_t n_trees;
    const int64_t *trees;                           /* (n_trees + 1,) */
    const double *capacity, *buffer, *reserved;     /* (n_groups,) kW, fraction, kW */
    const int64_t *parent;                          /* (n_groups,) */
    const uint8_t *policy;                          /* (n_groups,) */
    const int64_t *rotation;                        /* (n_groups,) ms */
    const int64_t *offsets;                         /* (n_groups + 1,) connectors of a group */
    const double *least, *rating;                   /* (n_connectors,) kW, effective */
    /* Sessions by row; those of tree k are rows[of_tree[k]..of_tree[k + 1] - 1], or these
     * numbers themselves where `rows` is NULL. */
    const int64_t *of_tree;                         /* (n_trees + 1,) */
    const int64_t *rows;
    const int64_t *arrival, *departure;             /* (n,) ms */
    const double *energy;                           /* (n,) kWh */
    const double *maximum, *minimum, *weight;       /* (n,) optional */
    const int64_t *priority;                        /* (n,) optional */
    const double *battery, *soc;                    /* (n,) optional */
    const int32_t *group, *connector;               /* (n,) codes, optional */
    const int64_t *group_at;                        /* by code of a group: its place */
    const int64_t *first, *last;                    /* by code of a connector: those it may be */
    /* How batteries taper. */
    int64_t n_pieces;
    double piece_soc[SIM_MOST_PIECES], piece_fraction[SIM_MOST_PIECES];
    /* Changes over time, those of tree k at changes[k]..changes[k + 1] - 1, by time. */
    const int64_t *changes;                         /* (n_trees + 1,) or NULL: none */
    const int64_t *change_at, *change_group;        /* ms; place */
    const double *change_capacity, *change_reserved; /* kW, NaN for no change */
    /* What shares of time are of. */
    int64_t start, stop;                            /* ms */
} sim_input;

/* A sum of energies that may be larger than 64 bits hold: high * 2**62 + low. */
typedef struct {
    int64_t high, low;
} sim_energy;

typedef struct {
    int32_t *connector;                             /* (n,) -1: turned away */
    int64_t *delivered;                             /* (n,) microjoules */
    int64_t *full_at;                               /* (n,) ms, or SIM_NEVER */
    int64_t *paused;                                /* (n,) ms */
    /* Of groups, with all that is below them. */
    int64_t *n_sessions, *n_turned_away;            /* (n_groups,) */
    sim_energy *energy, *wanted, *refused;          /* (n_groups,) delivered; wanted by those who
                                                        found a connector, and who did not */
    int64_t *peak, *p95;                            /* (n_groups,) quanta */
    int64_t *limiting;                              /* (n_groups,) ms in which it held somebody */
    int64_t *over, *over_peak;                      /* (n_groups,) ms; quanta */
} sim_output;

/* A change of a power: of a group or of a session, by place or by row. */
typedef struct {
    int64_t who, at, power;
} sim_step;

typedef struct {
    sim_step *steps;
    int64_t n, room;
} sim_steps;

/* What a call has done, and on request every power over time. */
typedef struct {
    int64_t n_events, n_solved;
    int64_t keep_groups, keep_sessions;             /* IN: whether these are asked for */
    sim_steps groups;                               /* group after group, in order of time */
    sim_steps sessions;                             /* tree after tree, in order of time */
} sim_report;

/* Simulate trees start..stop - 1. Returns 0, or -1 where there is no memory. */
int sim_run(const sim_input *in, const sim_output *out, int64_t start, int64_t stop,
            sim_report *report);

void sim_free(sim_report *report);

/* Usable capacity in quanta, as the kernel has it. */
int64_t sim_usable(double capacity, double buffer, double reserved, double per_kw);

#endif

// An allocator in JavaScript for `wattfill verify --exec "node waterfill.js"`: one group, shared by
// a water level. It pauses nobody, so it is right where all minimums fit.

"use strict";

function share({ minimum, maximum, capacity, buffer = 0, reserved = 0, active = null }) {
  const takesPart = minimum.map((_, i) => active === null || active[i]);
  const usable = Math.max(capacity * (1 - buffer) - reserved, 0);
  const at = (level) =>
    minimum.map((low, i) => (takesPart[i] ? Math.min(Math.max(level, low), maximum[i]) : 0));
  const drawn = (level) => at(level).reduce((sum, power) => sum + power, 0);

  // The highest level that fits lies between these two.
  let low = 0;
  let high = Math.max(0, ...maximum);
  if (drawn(high) <= usable) return at(high);
  for (let k = 0; k < 100; k++) {
    const middle = (low + high) / 2;
    if (drawn(middle) <= usable) low = middle;
    else high = middle;
  }
  return at(low);
}

const requests = require("readline").createInterface({ input: process.stdin });
requests.on("line", (line) => {
  const { id, ...batch } = JSON.parse(line);
  process.stdout.write(JSON.stringify({ id, power: share(batch) }) + "\n");
});

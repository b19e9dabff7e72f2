// A population fires, LANES neurons at a time: potential, count and constant current are read, spikes are counted
// off by subtracting the threshold as often as it fits (once in most networks), all is written back. It also
// presets potentials. Blocks of channels are the outer loop, so that their parameters are read once.
`default_nettype none

module snnc_fire #(
    parameter LANES = 16,
    parameter SW = 2,
    parameter VW = 24,
    parameter NW = 8,          // bits of a count
    parameter AW = 16
) (
    input  wire                clk,
    input  wire                rst,
    input  wire                start,
    input  wire                preset,     // preset potentials; nobody fires
    output wire                busy,
    input  wire                quiet,      // preset to zero, and leave the counts; or integrate, and send nothing
    input  wire                add_bias,
    input  wire                add_constant,
    input  wire                memory,     // what was sent can be taken back
    input  wire                capped,     // no more than `capacity` is sent in all
    input  wire                difference, // sent is the change of the potential, which stays
    input  wire                stepped,    // sent is the change of a step function of the potential, which stays
    input  wire [AW-1:0]       pixels,
    input  wire [AW-1:0]       blocks,
    input  wire [AW-1:0]       potentials,
    input  wire [AW-1:0]       constants,
    input  wire [AW-1:0]       parameters,
    input  wire [AW-1:0]       points,     // breakpoints of the step function
    input  wire [AW-1:0]       target,     // of the spikes
    input  wire [NW-1:0]       limit,
    input  wire [NW-1:0]       capacity,
    // memories
    output wire                parameter_read,
    output reg  [AW-1:0]       parameter_addr,
    input  wire [LANES*VW-1:0] parameter_data,
    output wire                v_read,
    output wire [AW-1:0]       v_read_addr,
    input  wire [LANES*VW-1:0] v_data,
    output wire                n_read,
    input  wire [LANES*NW-1:0] n_data,
    output wire [AW-1:0]       offset,     // of the word within the population
    output wire                v_write,
    output wire [AW-1:0]       v_write_addr,
    output wire [LANES*VW-1:0] v_out,
    output wire                n_write,
    output wire [LANES*NW-1:0] n_out,
    output wire                s_write,
    output wire [AW-1:0]       s_addr,
    output wire [LANES*SW-1:0] s_out
);
    localparam [3:0] IDLE = 0, PARAMETERS = 1, PRESET = 2, READ = 3, LOAD = 4, CONSTANT = 5, COUNT = 6,
                     POINT = 7, COMPARE = 8, TAKE = 9, CHANGE = 10;
    localparam [2:0] LAST = 4;

    reg [3:0] state;
    reg [2:0] got;
    reg presetting;
    reg [AW-1:0] block, pixel, at, point, point_addr;
    reg [LANES*VW-1:0] theta, bias, first, floor;

    wire last_pixel = pixel == pixels - 1'b1;
    wire last_block = block == blocks - 1'b1;
    wire last_point = point == points - 1'b1;
    wire [3:0] decide = difference ? CHANGE : stepped ? POINT : COUNT;
    wire [LANES-1:0] moving;
    wire store = state == CHANGE || (state == COUNT && moving == 0);
    wire next = store || state == PRESET;

    assign busy = state != IDLE;
    assign offset = at;
    assign parameter_read = (state == PARAMETERS && got != LAST) || state == POINT || state == COMPARE;
    assign v_read = state == READ || (state == LOAD && add_constant);
    assign v_read_addr = (state == READ ? potentials : constants) + at;
    assign n_read = state == READ;
    assign v_write = next;
    assign v_write_addr = potentials + at;
    assign n_write = store || (state == PRESET && !quiet);
    assign s_write = store && !quiet;
    assign s_addr = target + at;

    always @(posedge clk) begin
        case (state)
            IDLE: if (start) begin
                presetting <= preset;
                block <= 0;
                got <= 0;
                parameter_addr <= parameters;
                state <= PARAMETERS;
            end
            PARAMETERS: begin // what was addressed in the cycle before is there
                got <= got + 1'b1;
                case (got)
                    1: theta <= parameter_data;
                    2: bias <= parameter_data;
                    3: first <= parameter_data;
                    4: floor <= parameter_data;
                    default: ;
                endcase
                if (got != LAST) parameter_addr <= parameter_addr + 1'b1;
                else begin
                    point_addr <= parameter_addr; // breakpoints lie behind
                    pixel <= 0;
                    at <= block;
                    state <= presetting ? PRESET : READ;
                end
            end
            READ: begin
                point <= 0;
                parameter_addr <= point_addr;
                state <= LOAD;
            end
            LOAD: state <= add_constant ? CONSTANT : decide;
            CONSTANT: state <= decide;
            POINT: begin // a breakpoint is addressed
                parameter_addr <= parameter_addr + 1'b1;
                state <= COMPARE;
            end
            COMPARE: begin // it is there, its value addressed
                parameter_addr <= parameter_addr + 1'b1;
                state <= TAKE;
            end
            TAKE: begin
                point <= point + 1'b1;
                state <= last_point ? CHANGE : POINT;
            end
            default: ;
        endcase
        if (next) begin
            pixel <= pixel + 1'b1;
            at <= at + blocks;
            state <= presetting ? PRESET : READ;
            if (last_pixel) begin
                block <= block + 1'b1;
                got <= 0;
                parameter_addr <= point_addr + (points << 1);
                state <= last_block ? IDLE : PARAMETERS;
            end
        end
        if (rst) state <= IDLE;
    end

    genvar lane;
    generate
        for (lane = 0; lane < LANES; lane = lane + 1) begin : lanes
            reg signed [VW-1:0] m, step;
            reg signed [NW-1:0] n;
            reg signed [SW-1:0] s;
            reg above;
            wire signed [VW-1:0] threshold = $signed(theta[lane*VW +: VW]);
            wire signed [VW-1:0] lowest = $signed(floor[lane*VW +: VW]);
            wire signed [NW-1:0] spike = NW'(s);
            wire signed [NW-1:0] most = $signed(limit);

            wire up = m >= threshold && spike < most && (!capped || n < $signed(capacity));
            wire down = m < lowest && spike > -most && n > 0 && memory;
            assign moving[lane] = up || down;

            wire signed [VW-1:0] change = (difference ? m : step) - VW'(n);
            wire signed [VW-1:0] reach = VW'(most);
            wire signed [VW-1:0] clipped = change > reach ? reach : change < -reach ? -reach : change;
            wire changing = difference || stepped;
            wire unused = &{1'b0, clipped}; // it is as short as the limit

            always @(posedge clk) begin
                case (state)
                    LOAD: begin
                        m <= $signed(v_data[lane*VW +: VW]) + (add_bias ? $signed(bias[lane*VW +: VW]) : 0);
                        n <= $signed(n_data[lane*NW +: NW]);
                        s <= 0;
                        step <= threshold; // the value below all breakpoints
                    end
                    CONSTANT: m <= m + $signed(v_data[lane*VW +: VW]);
                    COUNT: if (up) begin
                        m <= m - threshold;
                        n <= n + 1'b1;
                        s <= s + 1'b1;
                    end else if (down) begin
                        m <= m + threshold;
                        n <= n - 1'b1;
                        s <= s - 1'b1;
                    end
                    COMPARE: above <= m >= $signed(parameter_data[lane*VW +: VW]);
                    TAKE: if (above) step <= $signed(parameter_data[lane*VW +: VW]);
                    default: ;
                endcase
            end

            assign v_out[lane*VW +: VW] = state == PRESET ? (quiet ? {VW{1'b0}} : first[lane*VW +: VW]) : m;
            assign n_out[lane*NW +: NW] = state == PRESET ? {NW{1'b0}} : changing ? n + NW'(clipped) : n;
            assign s_out[lane*SW +: SW] = changing ? SW'(clipped) : s;
        end
    endgenerate

`ifdef FORMAL
    reg begun = 0;
    always @(posedge clk) begin
        begun <= 1;
        if (!begun) assume (rst);
        assume (pixels != 0 && blocks != 0 && points != 0 && points <= 2);
        if (begun) assume ($stable({pixels, blocks, points, potentials, constants, parameters, target, limit, capacity,
                                    quiet, add_bias, add_constant, memory, capped, difference, stepped}));
        if (begun && state != IDLE) begin
            assert (state <= CHANGE && block < blocks && (state == PARAMETERS || pixel < pixels));
            if (state != PARAMETERS) assert ((state == PRESET) == presetting);
            if (state == CONSTANT) assert (add_constant);
            if (state == LOAD || state == CONSTANT) assert (point == 0);
            if (state == POINT || state == COMPARE || state == TAKE) assert (point < points && !difference && stepped);
            if (state == COUNT) assert (!difference && !stepped);
            if (state == CHANGE) assert (difference || stepped);
        end
    end

`ifndef FORMAL_NEURON
    // Proved by induction: parameters are those of the block, breakpoints those that lie behind them, and potentials,
    // counts and spikes are read and written at the word of pixel and block. Two breakpoints stand for any number.
    reg [AW-1:0] asked;
    (* anyconst *) wire [(LANES*VW << AW)-1:0] words; // of the parameters
    wire [AW-1:0] base = parameters + block * (AW'(4) + (points << 1));
    wire [AW-1:0] word = pixel * blocks + block;
    `define WORD(place) words[((place) & {AW{1'b1}}) * LANES*VW +: LANES*VW]
    always @(posedge clk) begin
        if (parameter_read) asked <= parameter_addr;
        assume (parameter_data == `WORD(asked));
        if (begun && state == PARAMETERS) begin
            assert (got <= LAST && parameter_addr == AW'(base + got));
            if (got != 0) assert (asked == AW'(parameter_addr - 1'b1));
            if (got > 1) assert (theta == `WORD(base));
            if (got > 2) assert (bias == `WORD(base + 1));
            if (got > 3) assert (first == `WORD(base + 2));
        end else if (begun && state != IDLE) begin
            assert (theta == `WORD(base) && bias == `WORD(base + 1));
            assert (first == `WORD(base + 2) && floor == `WORD(base + 3));
            assert (at == word && offset == word && point_addr == AW'(base + 4));
        end
        if (begun) case (state)
            READ: assert (v_read && n_read && v_read_addr == AW'(potentials + word));
            LOAD: begin
                assert (parameter_addr == point_addr);
                assert (!add_constant || (v_read && v_read_addr == AW'(constants + word)));
            end
            CONSTANT: assert (parameter_addr == point_addr);
            POINT: assert (parameter_addr == AW'(point_addr + 2 * point));
            COMPARE: assert (parameter_addr == AW'(asked + 1) && asked == AW'(point_addr + 2 * point));
            TAKE: assert (parameter_addr == AW'(asked + 1) && asked == AW'(point_addr + 2 * point + 1));
            default: ;
        endcase
        if (begun && v_write) assert (v_write_addr == AW'(potentials + word));
        if (begun && s_write) assert (s_addr == AW'(target + word));
    end
`else
    // Proved by induction: every lane writes what the definition of the neuron says (snnc/simulation/reference.py,
    // `fire`), for all potentials, counts, parameters and settings. Assumed is what holds for every network: bits as
    // they were proved for it, positive thresholds, counts from 0 to the capacity, sorted breakpoints, a negative
    // threshold only where at most one spike leaves. Which words these are is proved above.
    localparam WW = VW + NW + 2; // nothing below overflows
    generate
        for (lane = 0; lane < LANES; lane = lane + 1) begin : specified
            `define OF(packed) $signed(packed[lane*VW +: VW])
            (* anyconst *) wire signed [VW-1:0] edge0, edge1, value0, value1; // breakpoints, and what follows each
            reg signed [VW-1:0] v0, c0;
            reg signed [NW-1:0] n0;
            wire signed [WW-1:0] own = lanes[lane].m, count = lanes[lane].n, sent = lanes[lane].s,
                                 theta0 = `OF(theta), lowest = `OF(floor), most = $signed(limit),
                                 room = $signed(capacity);
            wire signed [WW-1:0] loaded = WW'(v0) + (add_bias ? WW'(`OF(bias)) : 0);
            wire signed [WW-1:0] m0 = loaded + (add_constant ? WW'(c0) : 0);

            // s = clip(floor(m0 / theta), low, high), said by what is left: less than theta unless s is as high as it
            // may be, and not negative unless it is as low. A potential above the negative threshold takes nothing back.
            wire signed [WW-1:0] high = capped && room - n0 < most ? room - n0 : most;
            wire signed [WW-1:0] low = !memory ? 0 : n0 < most ? 0 - WW'(n0) : -most;
            wire signed [WW-1:0] taken = (sent[0] ? theta0 : 0) + (sent[1] ? theta0 <<< 1 : 0) -
                                         (sent[2] ? theta0 <<< 2 : 0); // s theta, for spikes of three bits at most
            wire hesitant = m0 < 0 && m0 >= lowest;
            wire floored = sent >= low && sent <= high && (hesitant ? sent == 0 :
                           (sent == high || own < theta0) && (sent == low || own >= 0));

            // s = clip(K(m0) - n0, -limit, limit)
            wire [1:0] below = 2'(m0 >= edge0) + 2'(points > 1 && m0 >= edge1);
            wire signed [WW-1:0] stair = below == 0 ? theta0 : below == 1 ? WW'(value0) : WW'(value1);
            wire signed [WW-1:0] wish = (difference ? m0 : stair) - n0;
            wire signed [WW-1:0] change = wish > most ? most : wish < -most ? -most : wish;
            wire signed [WW-1:0] so_far = point > 1 && m0 >= edge1 ? WW'(value1) :
                                          point > 0 && m0 >= edge0 ? WW'(value0) : theta0;

            always @(posedge clk) begin
                if (state == LOAD) begin
                    v0 <= `OF(v_data);
                    n0 <= $signed(n_data[lane*NW +: NW]);
                end
                if (state == CONSTANT) c0 <= `OF(v_data);
                if (state == COMPARE) assume (`OF(parameter_data) == (point == 0 ? edge0 : edge1));
                if (state == TAKE) assume (`OF(parameter_data) == (point == 0 ? value0 : value1));
                assume (most >= 0 && most < (1 << (SW - 1)) && most < (1 << (VW - 1)) && SW <= 3);
                if (state == COUNT || state == CHANGE || state == POINT || state == COMPARE || state == TAKE) begin
                    assume (m0 == WW'($signed(m0[VW-1:0])));
                    if (difference || stepped) begin
                        assume (edge0 <= edge1);
                        assume (wish == WW'($signed(wish[VW-1:0])));
                        assume (wish + n0 == WW'($signed(NW'(wish + n0))));
                    end else begin
                        assume (theta0 > 0 && lowest <= 0 && (lowest == 0 || most <= 1));
                        assume (n0 >= 0 && n0 + most < (1 << (NW - 1)) && (!capped || n0 <= room));
                    end
                end
                if (begun) case (state)
                    CONSTANT: assert (lanes[lane].m == VW'(loaded) && sent == 0 && count == n0 && lanes[lane].step == theta0);
                    COUNT: begin
                        assert (own == m0 - taken && count == n0 + sent && sent <= high && sent >= low);
                        if (sent > 0) assert (own >= 0);
                        if (sent < 0) assert (own < theta0 && m0 < lowest);
                    end
                    POINT, COMPARE, TAKE: begin
                        assert (own == m0 && count == n0 && lanes[lane].step == so_far);
                        if (state == TAKE) assert (lanes[lane].above == (point == 0 ? m0 >= edge0 : m0 >= edge1));
                    end
                    CHANGE: assert (own == m0 && count == n0 && (difference || lanes[lane].step == stair));
                    default: ;
                endcase

                // What is written
                if (begun && state == PRESET) begin
                    assert (v_write && !s_write && n_write == !quiet && n_out[lane*NW +: NW] == 0);
                    assert (`OF(v_out) == (quiet ? 0 : `OF(first)));
                end else if (begun && v_write) begin
                    assert (n_write && s_write == !quiet);
                    if (difference || stepped) begin
                        assert (`OF(v_out) == m0 && $signed(s_out[lane*SW +: SW]) == change);
                        assert ($signed(n_out[lane*NW +: NW]) == n0 + change);
                    end else begin
                        assert (floored && `OF(v_out) == m0 - taken && s_out[lane*SW +: SW] == lanes[lane].s);
                        assert ($signed(n_out[lane*NW +: NW]) == n0 + sent);
                    end
                end
            end
        end
    endgenerate
`endif
`endif
endmodule

`default_nettype wire

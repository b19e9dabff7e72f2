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
    // Proved by induction: pixels, blocks and breakpoints stay within the population.
    reg begun = 0;
    always @(posedge clk) begin
        begun <= 1;
        if (!begun) assume (rst);
        assume (pixels != 0 && blocks != 0 && points != 0);
        if (begun) assume ($stable({pixels, blocks, points}));
        if (begun && state != IDLE) begin
            assert (state <= CHANGE && block < blocks);
            if (state == PARAMETERS) assert (got <= LAST);
            else assert (pixel < pixels);
            if (state == POINT || state == COMPARE || state == TAKE) assert (point < points);
        end
    end
`endif
endmodule

`default_nettype wire

// LANES parallel additions: a weight times what the spike carries, added to a potential. A potential that was
// written in the cycle of the read is forwarded, so taps need no distance. In the other mode, the maximum of the
// potentials that a window holds is written in turn to successive words.
`default_nettype none

module snnc_lanes #(
    parameter LANES = 16,
    parameter SW = 2,
    parameter PW = 12,
    parameter VW = 24,         // bits of a potential
    parameter AW = 16
) (
    input  wire                clk,
    input  wire                rst,
    output wire                busy,
    input  wire                vector,     // each lane has a spike of its own
    input  wire                maximum,
    input  wire [1:0]          bytes,      // what is added is shifted by as many bytes
    input  wire                start,
    input  wire [AW-1:0]       target,     // where maxima go
    // one tap
    input  wire                tap,
    input  wire                tap_first,
    input  wire                tap_last,
    input  wire [AW-1:0]       tap_weight,
    input  wire [AW-1:0]       tap_potential,
    input  wire [PW-1:0]       tap_payload,
    input  wire [LANES*SW-1:0] tap_spikes,
    // memories
    output wire                weight_read,
    output wire [AW-1:0]       weight_addr,
    input  wire [LANES*8-1:0]  weights,
    output wire                read,
    output wire [AW-1:0]       read_addr,
    input  wire [LANES*VW-1:0] potentials,
    output wire                write,
    output wire [AW-1:0]       write_addr,
    output wire [LANES*VW-1:0] sums
);
    // Stages: 1 weight addressed; 2 weight there, registered; 3 product; 4 product shifted, potential addressed;
    // 5 potential there, sum written.
    reg v2, v3, v4, v5;
    reg f2, f3, f4, f5, l2, l3, l4, l5;
    reg [AW-1:0] a2, a3, a4, a5;
    reg [PW-1:0] p2, p3;
    reg [LANES*SW-1:0] s2, s3;
    reg [AW-1:0] next_target;
    reg forward;
    reg [LANES*VW-1:0] written;

    assign weight_read = tap && !maximum;
    assign weight_addr = tap_weight;
    assign read = v4;
    assign read_addr = a4;
    assign write = v5 && (!maximum || l5);
    assign write_addr = maximum ? next_target : a5;
    assign busy = tap || v2 || v3 || v4 || v5;

    always @(posedge clk) begin
        v2 <= tap && !rst;
        v3 <= v2 && !rst;
        v4 <= v3 && !rst;
        v5 <= v4 && !rst;
        {f2, f3, f4, f5} <= {tap_first, f2, f3, f4};
        {l2, l3, l4, l5} <= {tap_last, l2, l3, l4};
        {a2, a3, a4, a5} <= {tap_potential, a2, a3, a4};
        {p2, p3} <= {tap_payload, p2};
        {s2, s3} <= {tap_spikes, s2};
        forward <= v5 && v4 && !maximum && a4 == a5;
        written <= sums;
        if (start) next_target <= target;
        else if (write) next_target <= next_target + 1'b1;
    end

    genvar lane;
    generate
        for (lane = 0; lane < LANES; lane = lane + 1) begin : lanes
            localparam MW = PW + 8;
            reg signed [7:0] weight;
            reg signed [MW-1:0] product;
            reg signed [VW-1:0] added;
            wire signed [PW-1:0] factor =
                vector ? PW'($signed(s3[lane*SW +: SW])) : $signed(p3);
            wire signed [VW-1:0] wide = VW'(product);
            wire signed [VW-1:0] old = $signed(forward ? written[lane*VW +: VW] : potentials[lane*VW +: VW]);
            reg signed [VW-1:0] highest;
            wire signed [VW-1:0] larger = f5 || old > highest ? old : highest;

            always @(posedge clk) begin
                weight <= $signed(weights[lane*8 +: 8]);
                product <= MW'(weight) * MW'(factor);
                added <= bytes == 0 ? wide : bytes == 1 ? wide <<< 8 : bytes == 2 ? wide <<< 16 : wide <<< 24;
                if (v5) highest <= larger;
            end
            assign sums[lane*VW +: VW] = maximum ? larger : old + added;
        end
    endgenerate
endmodule

`default_nettype wire

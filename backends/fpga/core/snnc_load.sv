// Fetches weights: consecutive words of the external memory, each in beats of 16 bits, the lowest first, are written
// to the memory of weights.
`default_nettype none

module snnc_load #(
    parameter LANES = 16,
    parameter AW = 16
) (
    input  wire               clk,
    input  wire               rst,
    input  wire               start,
    output wire               busy,
    input  wire [AW-1:0]      words,
    input  wire [AW-1:0]      target,
    output wire [23:0]        beats,    // that are asked of the external memory
    // they come in order, at most one a cycle
    input  wire               beat,
    input  wire [15:0]        data,
    // memory of weights
    output reg                write,
    output reg  [AW-1:0]      write_addr,
    output wire [LANES*8-1:0] word
);
    localparam BEATS = LANES > 2 ? LANES / 2 : 1;

    reg [AW-1:0] left;
    reg [7:0] part;
    reg [BEATS*16-1:0] shift;
    wire whole = part == 8'(BEATS - 1);

    assign busy = left != 0 || write;
    assign beats = 24'(words) * BEATS;
    assign word = shift[LANES*8-1:0];

    always @(posedge clk) begin
        write <= 0;
        if (start) begin
            left <= words;
            part <= 0;
            write_addr <= target - 1'b1;
        end else if (beat && left != 0) begin
            shift <= (BEATS*16)'({data, shift} >> 16);
            part <= whole ? 8'd0 : part + 1'b1;
            if (whole) begin
                left <= left - 1'b1;
                write <= 1;
                write_addr <= write_addr + 1'b1;
            end
        end
        if (rst) begin
            left <= 0;
            write <= 0;
        end
    end

`ifdef FORMAL
    // Proved by induction: it writes the words that were asked for, to their places, and no other.
    reg begun = 0;
    always @(posedge clk) begin
        begun <= 1;
        if (!begun) assume (rst);
        if (start) assume (!busy && words != 0);
        if (begun) assume ($stable({words, target}) || start);
        if (begun && busy) begin
            assert (left <= words && 32'(part) < BEATS);
            assert (write_addr == AW'(target + words - left - 1'b1));
            if (write) assert (left != words && part == 0);
        end
    end
`endif
endmodule

`default_nettype wire

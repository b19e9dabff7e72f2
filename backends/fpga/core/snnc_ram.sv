// Memory with one write port and one read port whose output is registered.
//
// A word that is read while it is written has no defined value: whoever needs the new one forwards it.
`default_nettype none

module snnc_ram #(
    parameter WIDTH = 32,
    parameter DEPTH = 1024,
    parameter AW = 16,
    parameter INIT = ""
) (
    input  wire             clk,
    input  wire             we,
    input  wire [AW-1:0]    waddr,
    input  wire [WIDTH-1:0] wdata,
    input  wire             re,
    input  wire [AW-1:0]    raddr,
    output reg  [WIDTH-1:0] rdata
);
    localparam IW = DEPTH > 1 ? $clog2(DEPTH) : 1;

    reg [WIDTH-1:0] mem [0:DEPTH-1];

    generate
        if (INIT != "") begin : image
            initial $readmemh(INIT, mem);
        end
    endgenerate

    always @(posedge clk) begin
        if (we) mem[waddr[IW-1:0]] <= wdata;
        if (re) rdata <= (we && waddr == raddr) ? {WIDTH{1'bx}} : mem[raddr[IW-1:0]];
    end

`ifndef SYNTHESIS
    always @(posedge clk) begin
        if (we && 32'(waddr) >= DEPTH) begin
            $display("FAULT: write to %0d of %0d words in %m", waddr, DEPTH);
            $finish;
        end
        if (re && 32'(raddr) >= DEPTH) begin
            $display("FAULT: read of %0d of %0d words in %m", raddr, DEPTH);
            $finish;
        end
    end
`endif
endmodule

`default_nettype wire

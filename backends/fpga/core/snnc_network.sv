// The core with the sizes of one network, from network.vh; the images lie beside it. Where weights lie in an SDRAM,
// the stream brings them first, after every reset.
`default_nettype none
`include "network.vh"

module snnc_network (
    input  wire        clk,
    input  wire        rst,
    input  wire [15:0] s_tdata,
    input  wire        s_tvalid,
    input  wire        s_tlast,
    output wire        s_tready,
    output wire [31:0] m_tdata,
    output wire        m_tvalid,
    output wire        m_tlast,
    input  wire        m_tready,
    output wire        mark,
    output wire [15:0] mark_id
`ifdef SNNC_EXTERNAL
    ,
    output wire [3:0]  sdram_command,    // cs, ras, cas and we, each low where it is set
    output wire [1:0]  sdram_bank,
    output wire [12:0] sdram_address,
    output wire        sdram_drive,
    output wire [15:0] sdram_to_chip,
    input  wire [15:0] sdram_from_chip
`endif
);
    wire start, beat, filled, ready;
    wire [23:0] addr, beats;
    wire [15:0] data;

`ifdef SNNC_EXTERNAL
    localparam EXTERNAL = 1;
    wire fills;
    assign s_tready = filled ? ready : fills;

    snnc_sdram #(.FILL(`SNNC_EXTERNAL), .POWER(`SNNC_POWER), .REFRESH(`SNNC_REFRESH)) sdram (
        .clk(clk), .rst(rst), .s_tdata(s_tdata), .s_tvalid(s_tvalid), .s_tready(fills), .filled(filled),
        .start(start), .addr(addr), .beats(beats), .beat(beat), .data(data), .command(sdram_command),
        .bank(sdram_bank), .address(sdram_address), .drive(sdram_drive), .to_chip(sdram_to_chip),
        .from_chip(sdram_from_chip)
    );
`else
    localparam EXTERNAL = 0;
    wire unused = &{1'b0, start, addr, beats};
    assign {beat, data, filled, s_tready} = {1'b0, 16'b0, 1'b1, ready};
`endif

    snnc_core #(
        .LANES(`SNNC_LANES), .SW(`SNNC_SW), .IW(`SNNC_IW), .VW(`SNNC_VW), .NW(`SNNC_NW), .AW(`SNNC_AW),
        .PROGRAM_DEPTH(`SNNC_PROGRAM), .WEIGHT_DEPTH(`SNNC_WEIGHTS), .HEAD_DEPTH(`SNNC_HEADS),
        .ROW_DEPTH(`SNNC_ROWS), .COLUMN_DEPTH(`SNNC_COLUMNS), .PARAMETER_DEPTH(`SNNC_PARAMETERS),
        .POTENTIAL_DEPTH(`SNNC_POTENTIALS), .COUNT_DEPTH(`SNNC_COUNTS), .SPIKE_DEPTH(`SNNC_SPIKES),
        .INPUT_DEPTH(`SNNC_INPUTS), .STEPS(`SNNC_STEPS), .MAXIMA(`SNNC_MAXIMA),
        .EXTERNAL(EXTERNAL), .WEIGHTS(`SNNC_WEIGHT_IMAGE)
    ) core (
        .clk(clk), .rst(rst), .s_tdata(s_tdata), .s_tvalid(s_tvalid && filled), .s_tlast(s_tlast), .s_tready(ready),
        .m_tdata(m_tdata), .m_tvalid(m_tvalid), .m_tlast(m_tlast), .m_tready(m_tready), .mark(mark),
        .mark_id(mark_id), .x_start(start), .x_addr(addr), .x_beats(beats), .x_beat(beat), .x_data(data)
    );
endmodule

`default_nettype wire
